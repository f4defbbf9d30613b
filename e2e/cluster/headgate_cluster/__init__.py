"""A local Kubernetes of real binaries, for tests and for trying Headgate on one machine.

`light` is etcd and kube-apiserver on loopback; `cluster` is whole regions, each a machine of its
own with kubelet, containerd and pods. Everything is built or fetched into a cache outside the tree.
"""
