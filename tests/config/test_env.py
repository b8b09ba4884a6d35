import pytest
from django.core.exceptions import ImproperlyConfigured

from config.env import Environment

PRODUCTION = {"KILOTOKEN_ENVIRONMENT": "production"}


def test_text_comes_from_the_variable_or_the_default():
    env = Environment({"NAME": "value"})
    assert env.text("NAME") == "value"
    assert env.text("OTHER", default="nothing") == "nothing"


def test_missing_text_without_default_is_refused_with_its_name():
    with pytest.raises(ImproperlyConfigured, match="Set NAME in the environment"):
        Environment({}).text("NAME")


def test_text_may_come_from_a_file_as_container_secrets_do(tmp_path):
    (tmp_path / "secret").write_text("from a file\n")
    assert Environment({"KEY_FILE": str(tmp_path / "secret"), "KEY": "ignored"}).text("KEY") == "from a file"


def test_unreadable_secret_file_is_refused(tmp_path):
    with pytest.raises(ImproperlyConfigured, match="KEY_FILE cannot be read"):
        Environment({"KEY_FILE": str(tmp_path / "missing")}).text("KEY")


def test_environment_is_development_unless_it_says_production():
    assert not Environment({}).is_production
    assert Environment(PRODUCTION).is_production
    with pytest.raises(ImproperlyConfigured, match="must be development or production"):
        _ = Environment({"KILOTOKEN_ENVIRONMENT": "prod"}).is_production


def test_development_secret_never_reaches_production():
    assert Environment({}).secret("KEY", development="dev") == "dev"
    assert Environment({**PRODUCTION, "KEY": "own"}).secret("KEY", development="dev") == "own"
    for variables in ({}, {"KEY": "dev"}, {"KEY": ""}):
        with pytest.raises(ImproperlyConfigured):
            Environment({**PRODUCTION, **variables}).secret("KEY", development="dev")


@pytest.mark.parametrize("word", ["1", "true", "Yes", " on "])
def test_flag_is_on(word):
    assert Environment({"FLAG": word}).flag("FLAG", default=False) is True


@pytest.mark.parametrize("word", ["0", "false", "No", "off", ""])
def test_flag_is_off(word):
    assert Environment({"FLAG": word}).flag("FLAG", default=True) is False


def test_flag_that_is_neither_is_refused():
    with pytest.raises(ImproperlyConfigured, match="FLAG must be yes or no, not 'maybe'"):
        Environment({"FLAG": "maybe"}).flag("FLAG", default=True)


def test_integer_is_whole_and_not_too_small():
    assert Environment({"N": "7"}).integer("N", default=1) == 7
    assert Environment({}).integer("N", default=1) == 1
    with pytest.raises(ImproperlyConfigured, match="whole number"):
        Environment({"N": "7.5"}).integer("N", default=1)
    with pytest.raises(ImproperlyConfigured, match="at least 1"):
        Environment({"N": "0"}).integer("N", default=1, minimum=1)


def test_choice_is_one_of_the_words():
    assert Environment({"SHAPE": "round"}).choice("SHAPE", ("flat", "round"), default="flat") == "round"
    assert Environment({}).choice("SHAPE", ("flat", "round"), default="flat") == "flat"
    with pytest.raises(ImproperlyConfigured, match="flat or round"):
        Environment({"SHAPE": "square"}).choice("SHAPE", ("flat", "round"), default="flat")


def test_words_are_separated_by_commas():
    assert Environment({"HOSTS": " a.example, ,b.example,"}).words("HOSTS") == ["a.example", "b.example"]


def test_url_loses_its_last_slash_and_must_be_http():
    assert Environment({"U": "https://meter.example/"}).url("U", default="") == "https://meter.example"
    assert Environment({}).url("U", default="") == ""
    with pytest.raises(ImproperlyConfigured, match="Set U"):
        Environment({}).url("U", default=None)
    with pytest.raises(ImproperlyConfigured, match="starts with http"):
        Environment({"U": "meter.example"}).url("U", default="")


def test_database_url_becomes_a_django_database_with_a_pool():
    env = Environment({"DB": "postgresql://kt:secret@db.example:5433/meter?sslmode=require", "DATABASE_POOL_SIZE": "3"})
    database = env.database("DB", default="")
    assert (database["NAME"], database["USER"], database["PASSWORD"]) == ("meter", "kt", "secret")
    assert (database["HOST"], database["PORT"]) == ("db.example", "5433")
    assert database["OPTIONS"]["sslmode"] == "require"
    assert database["OPTIONS"]["pool"]["max_size"] == 3


def test_database_on_a_unix_socket_keeps_its_folder():
    database = Environment({"DB": "postgresql://kt@/meter?host=/run/postgres"}).database("DB", default="")
    assert database["HOST"] == "/run/postgres"


def test_database_must_be_named_in_production_and_well_formed():
    with pytest.raises(ImproperlyConfigured, match="Set DB"):
        Environment(PRODUCTION).database("DB", default="postgresql://local/dev")
    with pytest.raises(ImproperlyConfigured, match="not a PostgreSQL connection string"):
        Environment({"DB": "mysql://no"}).database("DB", default="")
