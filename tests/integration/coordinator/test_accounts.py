"""Accounts of people: the one-time link, password and second factor, sessions, lockout, rate limits, recovery."""

import base64
import json
import threading
from datetime import timedelta
from typing import Any

import pytest

from coordinator import second_factor
from coordinator.cli.main import main
from shared.crypto.secret import Secret
from shared.errors import InputError, MitralError, Refusal
from tests.support.coordinator_scene import Scene, new_scene
from tests.support.fake_site import code_of

PASSWORD = "three ships came sailing"
Person = dict[str, Any]


def post(scene: Scene, path: str, role: str = "nobody", **body: Any) -> Any:
    scene.tokens.setdefault("nobody", "")
    return scene.operator("POST", path, body, role=role)


def set_up(scene: Scene, operator: str = "researcher", link: str | None = None) -> Person:
    """Let an operator set up an account; return what the person then has."""
    link = link or post(scene, f"/v1/operators/{operator}/link", "administrator")["link"]
    found = post(scene, "/v1/account/setup", link=link, password=PASSWORD)
    secret = Secret(base64.b32decode(found["totp_secret"]))
    done = post(scene, "/v1/account/confirm", link=link, code=code(scene, secret))
    scene.clock.at += timedelta(seconds=60)  # each code works once
    return {"operator": operator, "secret": secret, "recovery": done["recovery_codes"], "link": link}


def code(scene: Scene, secret: Secret) -> str:
    return second_factor.code_at(secret, second_factor.step_at(scene.clock.at))


def login(scene: Scene, person: Person, **changes: str) -> str:
    """Sign in and keep the session's token under its own name."""
    body = {"operator": person["operator"], "password": PASSWORD, "code": code(scene, person["secret"]), **changes}
    scene.tokens["session"] = post(scene, "/v1/login", **body)["token"]
    scene.clock.at += timedelta(seconds=60)
    return "session"


def refused(scene: Scene, person: Person, **changes: str) -> str:
    return code_of(lambda: login(scene, person, **changes))


def types(scene: Scene, *wanted: str) -> list[str]:
    return [one["type"] for one in scene.entries() if one["type"] in wanted]


# --- the first administrator ------------------------------------------------------------------------------------------


def test_the_first_administrator_sets_a_password_with_a_link_that_works_once(tmp_path: Any) -> None:
    scene = new_scene(tmp_path)
    path = scene.state / "administrator.link.json"
    link = json.loads(path.read_text())
    assert set(link) == {"v", "kind", "url", "root", "operator", "link", "expires_at"}
    assert path.stat().st_mode & 0o777 == 0o600
    with scene.coordinator.database.reading("test") as tx:
        assert tx.value("SELECT count(*) FROM account") == 0, "there is no password to begin with"
    assert refused(scene, {"operator": "administrator", "secret": Secret(b"x" * 20)}) == "login_refused"
    person = set_up(scene, "administrator", link["link"])
    assert scene.operator("GET", "/v1/operators", role=login(scene, person))["operators"]
    again = {"link": link["link"], "password": PASSWORD}
    assert code_of(lambda: post(scene, "/v1/account/setup", **again)) == "link_invalid"
    scene.close()


def test_a_link_of_two_people_is_nobodys(scene: Scene) -> None:
    """Whoever is first has it; the second one notices."""
    link = post(scene, "/v1/operators/viewer/link", "administrator")["link"]
    secrets = [post(scene, "/v1/account/setup", link=link, password=PASSWORD)["totp_secret"] for _ in range(2)]
    codes = [code(scene, Secret(base64.b32decode(one))) for one in secrets]
    assert code_of(lambda: post(scene, "/v1/account/confirm", link=link, code=codes[0])) == "code_wrong"
    assert post(scene, "/v1/account/confirm", link=link, code=codes[1])["operator"] == "viewer"
    assert code_of(lambda: post(scene, "/v1/account/confirm", link=link, code=codes[1])) == "link_invalid"


def test_links_end_and_a_newer_one_ends_the_older(scene: Scene) -> None:
    def ask() -> str:
        return str(post(scene, "/v1/operators/viewer/link", "administrator")["link"])

    def state(link: str) -> str:
        try:
            post(scene, "/v1/account/setup", link=link, password=PASSWORD)
        except MitralError as error:
            return error.code
        return "good"

    old, new = ask(), ask()
    assert (state(old), state(new), state("ML1-NO")) == ("link_invalid", "good", "link_invalid")
    assert code_of(lambda: post(scene, "/v1/account/confirm", link=ask(), code="123456")) == "link_invalid"
    last = ask()
    scene.clock.at += timedelta(hours=72)
    assert state(last) == "link_invalid"
    gone = ask()
    scene.operator("DELETE", "/v1/operators/viewer", role="administrator")
    assert state(gone) == "link_invalid"
    weak = {"link": post(scene, "/v1/operators/auditor/link", "administrator")["link"], "password": "auditor"}
    assert code_of(lambda: post(scene, "/v1/account/setup", **weak)) == "password_weak"


def test_a_link_is_as_strong_as_the_role_so_only_who_may_give_the_role_makes_it(scene: Scene) -> None:
    scene.clock.at += timedelta(seconds=1)
    body = {"name": "helpdesk", "permissions": ["operators.grant:viewer"]}
    scene.tokens["helpdesk"] = post(scene, "/v1/tokens", "administrator", **body)["token"]
    assert post(scene, "/v1/operators/viewer/link", "helpdesk")["operator"] == "viewer"
    assert code_of(lambda: post(scene, "/v1/operators/administrator/link", "helpdesk")) == "grant_denied"
    assert code_of(lambda: post(scene, "/v1/operators/viewer/link", "researcher")) == "permission_denied"
    assert post(scene, "/v1/operators/administrator/link", "administrator")["link"], "no account yet: nothing to take"
    set_up(scene, "administrator")
    assert code_of(lambda: post(scene, "/v1/operators/administrator/link", "administrator")) == "grant_denied"


# --- signing in -------------------------------------------------------------------------------------------------------


def test_signing_in_needs_all_three_and_says_nothing_about_which_was_wrong(scene: Scene) -> None:
    person = set_up(scene)
    for changes in ({"password": PASSWORD + "!"}, {"code": "000000"}, {"operator": "viewer"}, {"operator": "nobody"}):
        assert refused(scene, person, **changes) == "login_refused"
    name = login(scene, person)
    assert scene.operator("GET", "/v1/whoami", role=name)["operator"] == "researcher"
    assert scene.operator("GET", "/v1/studies", role=name) == {"studies": []}
    kept = b"".join(path.read_bytes() for path in scene.state.glob("coordinator.sqlite*"))
    for secret in (PASSWORD.encode(), person["secret"].reveal(), scene.tokens[name].encode(), person["link"].encode()):
        assert secret not in kept
    assert not [one for one in person["recovery"] if one.encode() in kept]


def test_a_code_and_a_recovery_code_work_once(scene: Scene) -> None:
    person = set_up(scene)
    used = code(scene, person["secret"])
    login(scene, person, code=used)
    scene.clock.at -= timedelta(seconds=60)
    assert refused(scene, person, code=used) == "login_refused"
    scene.clock.at += timedelta(seconds=60)
    login(scene, person, code=person["recovery"][3].upper())
    assert refused(scene, person, code=person["recovery"][3]) == "login_refused"
    login(scene, person, code=person["recovery"][4])


def test_two_at_once_with_one_code_get_one_session(scene: Scene) -> None:
    person = set_up(scene)
    body = {"operator": "researcher", "password": PASSWORD, "code": code(scene, person["secret"])}
    from coordinator.logins import Attempt, check_login

    results: list[str] = []

    def knock() -> None:
        attempt = Attempt(body["operator"], Secret(body["password"].encode()), body["code"])
        coordinator = scene.coordinator
        try:
            check_login(coordinator.database, coordinator.log, coordinator.keys.kek, attempt, scene.clock.at)
        except MitralError as error:
            results.append(error.code)
        else:
            results.append("in")

    threads = [threading.Thread(target=knock) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(results) == ["in", "login_refused", "login_refused", "login_refused"]


def test_five_failures_lock_the_name_longer_each_time_whether_or_not_it_exists(scene: Scene) -> None:
    person = set_up(scene)
    for name in ("researcher", "no-such-person"):
        for _ in range(5):
            assert refused(scene, person, operator=name, password="wrong" * 3) == "login_refused"
            scene.clock.at += timedelta(seconds=6)
        assert refused(scene, person, operator=name) == "login_locked"
    scene.clock.at += timedelta(minutes=2)
    assert refused(scene, person, password="wrong" * 3) == "login_refused"
    scene.clock.at += timedelta(seconds=70)
    assert refused(scene, person) == "login_locked", "the second lock lasts two minutes"
    scene.clock.at += timedelta(seconds=60)
    login(scene, person)
    assert types(scene, "alert.login_locked") == ["alert.login_locked"] * 3
    failures = [one for one in scene.entries() if one["type"] == "authn.fail"]
    assert len(failures) == 11
    named = {None if one["subject"] is None else one["subject"]["id"] for one in failures}
    assert named == {"researcher", None}, "a name that nobody has may be a password typed in the wrong place"
    assert refused(scene, person, password="wrong" * 3) == "login_refused", "a success starts the count anew"


def test_one_address_cannot_try_name_after_name(scene: Scene) -> None:
    person = set_up(scene)
    scene.clock.at += timedelta(minutes=2)
    codes = [refused(scene, person, operator=f"name-{number}", code="000000") for number in range(12)]
    assert codes == ["login_refused"] * 10 + ["rate_limited"] * 2
    scene.operator("GET", "/v1/studies")  # who has a token is not kept out


def test_who_shows_bad_tokens_has_to_wait(scene: Scene) -> None:
    scene.tokens["odd"] = "MT1-NOPE"
    codes = [code_of(lambda: scene.operator("GET", "/v1/whoami", role="odd")) for _ in range(301)]
    assert codes == ["token_invalid"] * 300 + ["rate_limited"]
    assert types(scene, "authn.fail") == ["authn.fail"]
    scene.operator("GET", "/v1/whoami")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"operator": "a"},
        {"operator": "A B", "password": PASSWORD, "code": "1"},
        {"operator": "a", "password": "\x00", "code": "1"},
        {"operator": "a", "password": "\ud800" * 20, "code": "1"},
        {"operator": "a", "password": "x" * 2000, "code": "1"},
        {"operator": "a", "password": PASSWORD, "code": 5},
        {"operator": "a", "password": PASSWORD, "code": "1", "extra": 1},
    ],
)
def test_a_login_of_any_form_is_answered(scene: Scene, body: dict[str, Any]) -> None:
    scene.tokens["nobody"] = ""
    with pytest.raises(MitralError) as caught:
        scene.operator("POST", "/v1/login", json.dumps(body).encode(), role="nobody")
    assert caught.value.code in {"field_invalid", "field_unknown", "id_malformed", "json_malformed"}


# --- sessions ---------------------------------------------------------------------------------------------------------


def is_in(scene: Scene, name: str) -> bool:
    try:
        scene.operator("GET", "/v1/whoami", role=name)
    except Refusal as error:
        return error.code != "token_invalid"
    return True


def test_a_session_ends_when_it_rests_and_after_twelve_hours(scene: Scene) -> None:
    person = set_up(scene)
    login(scene, person)
    for _ in range(3):
        scene.clock.at += timedelta(minutes=28)
        assert is_in(scene, "session")
    scene.clock.at += timedelta(minutes=30)
    assert not is_in(scene, "session")
    login(scene, person)
    for _ in range(28):
        scene.clock.at += timedelta(minutes=25)
        assert is_in(scene, "session")
    scene.clock.at += timedelta(minutes=25)
    assert not is_in(scene, "session")


def test_signing_out_and_taking_a_session_away(scene: Scene) -> None:
    person = set_up(scene)
    login(scene, person)
    post(scene, "/v1/logout", "session")
    assert not is_in(scene, "session")
    assert code_of(lambda: post(scene, "/v1/logout", "researcher")) == "session_missing"
    login(scene, person)
    (open_one,) = [
        one
        for one in scene.operator("GET", "/v1/tokens", role="administrator")["tokens"]
        if one["authn"] == "local" and one["valid"]
    ]
    scene.operator("DELETE", f"/v1/tokens/{open_one['token']}", role="administrator")
    assert not is_in(scene, "session")
    assert types(scene, "login", "logout", "token.revoked") == ["login", "logout", "login", "token.revoked"]
    first = next(one for one in scene.entries() if one["type"] == "login")
    assert (first["actor"]["id"], first["actor"]["authn"]) == ("researcher", "local")
    assert first["actor"]["instance"].startswith("session-")


def test_the_eleventh_session_ends_the_first(scene: Scene) -> None:
    person = set_up(scene)
    names = []
    for number in range(11):
        scene.tokens[f"session-{number}"] = scene.tokens[login(scene, person)]
        names.append(f"session-{number}")
    assert [is_in(scene, name) for name in names] == [False] + [True] * 10


def test_a_session_makes_tokens_that_outlive_it(scene: Scene) -> None:
    login(scene, set_up(scene))
    scene.tokens["made"] = post(scene, "/v1/tokens", "session", permissions=["studies.read"], days=30)["token"]
    scene.clock.at += timedelta(days=20)
    assert not is_in(scene, "session")
    assert scene.operator("GET", "/v1/studies", role="made") == {"studies": []}


def test_a_new_password_needs_the_old_one_and_ends_every_session(scene: Scene) -> None:
    person = set_up(scene)
    login(scene, person)
    wrong = {"password": "x", "code": code(scene, person["secret"])}
    assert code_of(lambda: post(scene, "/v1/account/link", "session", **wrong)) == "login_refused"
    right = {"password": PASSWORD, "code": code(scene, person["secret"])}
    link = post(scene, "/v1/account/link", "session", **right)["link"]
    new = set_up(scene, link=link)
    assert not is_in(scene, "session")
    assert refused(scene, person) == "login_refused"
    assert refused(scene, new, code=person["recovery"][0]) == "login_refused", "old recovery codes are gone"
    assert is_in(scene, login(scene, new))
    assert types(scene, "account.set_up") == ["account.set_up"] * 2


def test_a_removed_operator_is_out_at_once_and_cannot_sign_in(scene: Scene) -> None:
    person = set_up(scene)
    login(scene, person)
    scene.operator("DELETE", "/v1/operators/researcher", role="administrator")
    assert not is_in(scene, "session")
    assert refused(scene, person) == "login_refused"


def test_accounts_outlive_a_restart(scene: Scene) -> None:
    person = set_up(scene)
    login(scene, person)
    scene.restart()
    assert is_in(scene, "session")
    assert is_in(scene, login(scene, person))


# --- the command line -------------------------------------------------------------------------------------------------


def test_when_nobody_can_sign_in_the_state_directory_gives_a_link(
    scene: Scene, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.coordinator.database.close()
    out = tmp_path / "again.link.json"
    command = ["mitral-coordinator", "recover", "administrator", "--state", str(scene.state), "--out", str(out)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    scene.boot()
    person = set_up(scene, "administrator", json.loads(out.read_text())["link"])
    assert is_in(scene, login(scene, person))
    made = [one for one in scene.entries() if one["type"] == "account.invited"][-2:]
    assert [one["actor"]["kind"] for one in made] == ["coordinator", "coordinator"]
    from coordinator.state import recover_account

    with pytest.raises(InputError, match="file_exists"):
        recover_account(scene.state, scene.settings, "administrator", out, scene.clock)
    with pytest.raises(InputError, match="operator_unknown"):
        recover_account(scene.state, scene.settings, "nobody", tmp_path / "x", scene.clock)
