from django.urls import URLPattern, path

from accounts.views import audit, home, invitations, key_revocations, keys, mailbox, members, projects, tokens

app_name = "accounts"
urlpatterns: list[URLPattern] = [
    path("home/", home.home, name="home"),
    path("profile/", home.profile, name="profile"),
    path("organisations/new/", home.organisation_create, name="organisation_create"),
    path("invitations/<str:token>/", invitations.invitation_accept, name="invitation_accept"),
    path("o/<slug:slug>/settings/", home.settings, name="settings"),
    path("o/<slug:slug>/settings/change/", home.settings_change, name="settings_change"),
    path("o/<slug:slug>/members/", members.members, name="members"),
    path("o/<slug:slug>/members/leave/", members.leave, name="leave"),
    path("o/<slug:slug>/members/invitations/", invitations.invitation_create, name="invitation_create"),
    path(
        "o/<slug:slug>/members/invitations/<str:public_id>/withdrawal/",
        invitations.invitation_withdrawal,
        name="invitation_withdrawal",
    ),
    path("o/<slug:slug>/members/<str:public_id>/role/", members.member_role, name="member_role"),
    path("o/<slug:slug>/members/<str:public_id>/removal/", members.member_removal, name="member_removal"),
    path("o/<slug:slug>/keys/", keys.keys, name="keys"),
    path("o/<slug:slug>/keys/new/", keys.key_create, name="key_create"),
    path("o/<slug:slug>/keys/revocation/", key_revocations.keys_revocation, name="keys_revocation"),
    path("o/<slug:slug>/keys/<str:public_id>/", keys.key, name="key"),
    path("o/<slug:slug>/keys/<str:public_id>/change/", keys.key_change, name="key_change"),
    path("o/<slug:slug>/keys/<str:public_id>/rotation/", keys.key_rotation, name="key_rotation"),
    path("o/<slug:slug>/keys/<str:public_id>/revocation/", key_revocations.key_revocation, name="key_revocation"),
    path("o/<slug:slug>/projects/", projects.projects, name="projects"),
    path("o/<slug:slug>/projects/new/", projects.project_create, name="project_create"),
    path("o/<slug:slug>/projects/<str:public_id>/", projects.project, name="project"),
    path("o/<slug:slug>/projects/<str:public_id>/name/", projects.project_name, name="project_name"),
    path("o/<slug:slug>/projects/<str:public_id>/archival/", projects.project_archival, name="project_archive"),
    path("o/<slug:slug>/access-tokens/", tokens.access_tokens, name="access_tokens"),
    path("o/<slug:slug>/access-tokens/new/", tokens.access_token_create, name="access_token_create"),
    path(
        "o/<slug:slug>/access-tokens/<str:public_id>/revocation/",
        tokens.access_token_revocation,
        name="access_token_revocation",
    ),
    path("o/<slug:slug>/audit/", audit.audit, name="audit"),
    path("dev/mailbox/", mailbox.mailbox, name="mailbox"),
    path("dev/mailbox/<str:name>/", mailbox.mailbox_message, name="mailbox_message"),
    path("dev/mailbox/<str:name>/html/", mailbox.mailbox_html, name="mailbox_html"),
]
