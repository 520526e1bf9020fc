"""Credentials from a pod's files and from a kubeconfig."""

from pathlib import Path

import pytest
import yaml
from understudy_kube.credentials import Credentials, CredentialsError


def test_a_token_is_read_again_once_a_minute_or_when_asked(tmp_path: Path) -> None:
    now = 0.0
    token_file = tmp_path / "token"
    token_file.write_text("one\n")
    credentials = Credentials("https://api", None, token_file=token_file, clock=lambda: now)
    assert credentials.token() == "one"
    replace(token_file, "two")
    assert credentials.token() == "one"
    now = 61.0
    assert credentials.token() == "two"
    replace(token_file, "three")
    assert credentials.refresh()
    assert credentials.token() == "three"
    assert not credentials.refresh()


def test_a_token_file_that_vanishes_leaves_the_last_token(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("one")
    credentials = Credentials("https://api", None, token_file=token_file)
    assert credentials.token() == "one"
    token_file.unlink()
    assert not credentials.refresh()
    assert credentials.token() == "one"


def test_a_kubeconfig_gives_server_token_and_namespace(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    path = kubeconfig(tmp_path, user={"tokenFile": "token"})
    credentials = Credentials.from_kubeconfig(path)
    assert (credentials.server, credentials.token(), credentials.namespace) == ("http://api:1", "secret", "team")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"users": []}, "no entry 'u' in users"),
        ({"current-context": "other"}, "no entry 'other' in contexts"),
        ({"clusters": [{"name": "c", "cluster": {}}]}, "no usable kubeconfig"),
        ({"users": [{"name": "u", "user": {"exec": {}}}]}, "exec plugins"),
    ],
)
def test_an_unusable_kubeconfig_is_named_with_what_is_wrong(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    path = kubeconfig(tmp_path, user={"token": "x"})
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    with pytest.raises(CredentialsError, match=says) as error:
        Credentials.from_kubeconfig(path)
    assert str(path) in str(error.value)


def test_outside_a_pod_the_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(CredentialsError, match="KUBERNETES_SERVICE_HOST"):
        Credentials.in_cluster()


def test_a_pod_without_its_token_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    with pytest.raises(CredentialsError, match="automountServiceAccountToken"):
        Credentials.in_cluster(tmp_path)


def replace(path: Path, text: str) -> None:
    """Swap the file as the kubelet does: a new one takes its name."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def kubeconfig(folder: Path, user: dict[str, str]) -> Path:
    path = folder / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "x",
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
                "clusters": [{"name": "c", "cluster": {"server": "http://api:1/"}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path
