"""`make demo`: the main job on a local cluster, and the commands to try next."""

import sys
import time

from e2e.harness import KEY, MODEL, NAMESPACE
from e2e.release import DEMO, examples, say, start

QUESTION = "What does a river do on its way to the sea?"


def main() -> int:
    began = time.monotonic()
    say("1/4 a Kubernetes of real binaries, and the images (the first time takes minutes)")
    release = start(DEMO)
    cluster = release.cluster
    say("2/4 helm install")
    release.install()
    say("3/4 kubectl apply -f examples/quickstart")
    cluster.kubectl("apply", "-f", examples("quickstart"))
    for kind, name in (("mdep", MODEL), ("tq", "demo")):
        cluster.kubectl("wait", kind, name, "--for=condition=Ready", "--timeout=300s")
    print(cluster.kubectl("get", "mdep,tq"))
    say(f"4/4 the OpenAI client asks {MODEL}: {QUESTION}\n")
    with cluster.openai() as client:
        stream = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=80,
            stream=True,
        )
        for chunk in stream:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print(
        "\n\n(Kubernetes, Triton and the gateway are real; the GPU and the text are simulated.)\n"
        f"\nDone in {time.monotonic() - began:.0f} s. The cluster goes on running. Try next:\n\n"
        f"  export KUBECONFIG={cluster.kubeconfig}\n"
        f"  alias kubectl='{cluster.kubectl_binary} -n {NAMESPACE}'\n"
        f"  kubectl get headgate\n"
        f"  kubectl scale mdep {MODEL} --replicas=2\n"
        f"  curl -N {cluster.url}/chat/completions -H 'Authorization: Bearer {KEY}' \\\n"
        f'    -d \'{{"model": "{MODEL}", "stream": true, '
        f'"messages": [{{"role": "user", "content": "Hello"}}]}}\'\n'
        f"  .venv/bin/headgate keys create demo-keys --entry alice -n {NAMESPACE}\n"
        f"  .venv/bin/headgate cluster status\n"
        f"  .venv/bin/headgate cluster down"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
