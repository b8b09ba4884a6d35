"""The cast itself: what other tests take for granted."""

from accounts.api_keys import Subject, resolve_subjects
from tests import factories


def test_subjects_resolve_by_id_digest_and_organisation(acme, acme_key, acme_revoked_key, globex):
    project = factories.default_project(acme)
    found = resolve_subjects(
        [acme_key.api_key.public_id, acme_key.digest, acme_revoked_key.digest, acme.public_id, globex.public_id, "?"]
    )

    assert found[acme_key.digest] == Subject(acme.pk, project.pk, acme_key.api_key.pk, "Europe/Berlin")
    assert found[acme_key.api_key.public_id] == found[acme_key.digest]
    assert found[acme_revoked_key.digest].api_key_id == acme_revoked_key.api_key.pk
    assert found[acme.public_id] == Subject(acme.pk, project.pk, None, "Europe/Berlin")
    assert found[globex.public_id].organisation_id == globex.pk
    assert "?" not in found


def test_cast_stands(olivia, martin, vera, gus, globex, operator, service_token, acme_access_token, client_for, api):
    assert client_for(olivia).session["_auth_user_id"] == str(olivia.pk)
    assert api(service_token.secret).get("/v1/nothing").status_code == 404
