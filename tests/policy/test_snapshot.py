import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from headgate_api.errors import TerminalError
from headgate_api.snapshot import (
    FEATURES,
    SCHEMA,
    Entry,
    Identity,
    InputRule,
    ModelBody,
    Pointer,
    RequestLimits,
    RouteBody,
    RouteRule,
    SafetyBody,
    StreamingBody,
    Target,
    TenantBody,
)
from headgate_policy.snapshot import (
    MOST_BUCKETS,
    SHARD_LIMIT,
    Compiler,
    Shards,
    bucket_of,
    compile_shards,
    decode_body,
    decode_pointer,
    decode_shard,
    digest_of,
    encode_pointer,
    make_entry,
)


def tenant(name: str, *, namespace: str = "chat", generation: int = 1) -> Entry:
    identity = Identity(kind="TenantQuota", namespace=namespace, name=name)
    body = TenantBody(tenant=name)
    return make_entry(identity, uid=f"uid-{name}", generation=generation, body=body)


def model(name: str, *, template: str) -> Entry:
    identity = Identity(kind="ModelDeployment", namespace="chat", name=name)
    body = ModelBody(public_name=name, chat_template=template)
    return make_entry(identity, uid=f"uid-{name}", generation=1, body=body)


def read(shards: Shards) -> list[Entry]:
    return [e for content in shards.contents.values() for e in decode_shard(content).entries]


def by_identity(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.identity)


ENTRIES = st.lists(
    st.builds(
        tenant,
        st.text("abc-", min_size=1, max_size=6),
        namespace=st.sampled_from(["chat", "search"]),
        generation=st.integers(1, 9),
    ),
    max_size=60,
    unique_by=lambda entry: entry.identity,
)


class TestCompile:
    @given(entries=ENTRIES, data=st.data())
    def test_the_bytes_do_not_depend_on_the_order(
        self, entries: list[Entry], data: st.DataObject
    ) -> None:
        shuffled = data.draw(st.permutations(entries))
        assert compile_shards(entries) == compile_shards(shuffled)

    @given(first=ENTRIES, second=ENTRIES)
    def test_the_bytes_do_not_depend_on_what_was_compiled_before(
        self, first: list[Entry], second: list[Entry]
    ) -> None:
        compiler = Compiler()
        compiler.compile(first)
        assert compile_shards(second) == compiler.compile(second)

    @given(entries=ENTRIES)
    def test_what_was_written_is_read_and_lies_in_its_bucket(self, entries: list[Entry]) -> None:
        shards = compile_shards(entries)

        assert by_identity(entries) == by_identity(read(shards))
        assert {d for d in shards.digests if d} == set(shards.contents)
        for bucket, digest in enumerate(shards.digests):
            for entry in decode_shard(shards.contents[digest]).entries if digest else ():
                assert bucket == bucket_of(entry.identity, len(shards.digests))

    @settings(max_examples=20)
    @given(sizes=st.lists(st.integers(1, 2 * SHARD_LIMIT), min_size=1, max_size=40))
    def test_a_shard_has_64_kib_at_most_or_one_entry(self, sizes: list[int]) -> None:
        entries = [model(f"m{i}", template="x" * size) for i, size in enumerate(sizes)]

        shards = compile_shards(entries)

        for content in shards.contents.values():
            small = len(content) <= SHARD_LIMIT
            assert small or 1 == len(decode_shard(content).entries)

    def test_a_thousand_large_templates_still_have_a_pointer_that_fits(self) -> None:
        entries = [model(f"m{i}", template="x" * 60_000) for i in range(1000)]

        shards = compile_shards(entries)

        assert MOST_BUCKETS == len(shards.digests)
        assert max(map(len, shards.contents.values())) < 1_000_000
        pointer = Pointer(schema=SCHEMA, epoch=1, sequence=1, shards=shards.digests)
        assert len(encode_pointer(pointer)) < 200_000

    def test_ten_thousand_tenants_need_few_buckets(self) -> None:
        shards = compile_shards(tenant(f"tenant-{i}") for i in range(10_000))
        assert 128 == len(shards.digests)

    def test_a_change_of_one_object_changes_one_shard(self) -> None:
        entries = [tenant(f"tenant-{i}") for i in range(1000)]
        before = compile_shards(entries)

        after = compile_shards([tenant("tenant-7", generation=2), *entries[:7], *entries[8:]])

        assert 1 == sum(b != a for b, a in zip(before.digests, after.digests, strict=True))

    def test_two_entries_for_one_object_are_a_bug(self) -> None:
        with pytest.raises(ValueError, match="two entries for"):
            compile_shards([tenant("acme"), tenant("acme", generation=2)])

    def test_nothing_is_128_empty_buckets(self) -> None:
        assert Shards({}, ("",) * 128) == compile_shards([])


def test_equal_bodies_have_equal_bytes_wherever_their_values_come_from() -> None:
    """A value that was read is equal to a default, but no default: msgspec would write it out."""
    identity = Identity(kind="RoutingPolicy", namespace="chat", name="gpt")
    streaming = StreamingBody(max_characters=int("400"), max_hold=float("0.5"))
    target = Target(model="llama", weight=int("1"))
    rule = RouteRule(name="all", targets=(target,), streaming=streaming)
    body = RouteBody(models=("gpt",), routes=(rule,))

    entry = make_entry(identity, uid="uid", generation=1, body=body)

    assert (
        b'{"models":["gpt"],"routes":[{"name":"all","targets":[{"model":"llama"}],"streaming":{}}]}'
    ) == bytes(entry.body)
    assert body == decode_body(entry)


class TestDecode:
    def test_a_pointer_comes_back(self) -> None:
        pointer = Pointer(schema=SCHEMA, epoch=3, sequence=17, shards=("", digest_of(b"x")))
        assert pointer == decode_pointer(encode_pointer(pointer))

    def test_a_pointer_of_a_newer_schema_is_refused_whatever_else_it_holds(self) -> None:
        with pytest.raises(TerminalError, match="schema 2; this release reads 1"):
            decode_pointer('{"schema": 2, "shards": "elsewhere"}')

    @pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"schema": "1"}'])
    def test_other_bytes_are_no_pointer(self, data: bytes) -> None:
        with pytest.raises(TerminalError, match="malformed pointer"):
            decode_pointer(data)

    def test_other_bytes_are_no_shard(self) -> None:
        with pytest.raises(TerminalError, match="malformed shard"):
            decode_shard(b'{"entries": [{}]}')

    def test_a_body_comes_back_as_what_it_was(self) -> None:
        rule = InputRule(name="cards", pattern=r"\d{16}")
        body = SafetyBody(tenants=("acme-*",), shadow=True, rules=(rule,))
        identity = Identity(kind="SafetyPolicy", namespace="chat", name="cards")
        entry = make_entry(identity, uid="u", generation=1, body=body, requires=["input-rules"])

        assert body == decode_body(entry)

    def test_limits_of_a_request_come_back(self) -> None:
        limits = RequestLimits(max_total_tokens=8000, max_calls=6)
        body = TenantBody(tenant="acme", request=limits)
        identity = Identity(kind="TenantQuota", namespace="chat", name="acme")
        entry = make_entry(identity, uid="u", generation=1, body=body, requires=["request-budget"])

        assert body == decode_body(entry)
        assert FEATURES.issuperset(entry.requires)

    def test_fields_that_a_newer_operator_adds_are_ignored(self) -> None:
        entry = tenant("acme")
        newer = msgspec.structs.replace(entry, body=msgspec.Raw(b'{"tenant":"acme","weight":7}'))
        assert TenantBody(tenant="acme") == decode_body(newer)

    def test_a_body_of_another_kind_is_refused_with_the_name_of_the_object(self) -> None:
        entry = msgspec.structs.replace(tenant("acme"), kind="ModelDeployment")
        with pytest.raises(TerminalError, match="malformed ModelDeployment chat/acme"):
            decode_body(entry)
