"""Django settings. One file; every read of the environment goes through `config.env`."""

from pathlib import Path
from urllib.parse import urlsplit

from django.templatetags.static import static
from django.utils.csp import CSP

from config import embedded
from config.admin_navigation import ADMIN_NAVIGATION
from config.env import Environment
from config.schedule import SCHEDULE

env = Environment()

# --- Where we are -----------------------------------------------------------------------------------------------------

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(env.text("KILOTOKEN_DATA", default=str(BASE_DIR / ".data"))).resolve()
PRODUCTION = env.is_production
DEBUG = env.flag("DEBUG", default=False)
SITE_URL = env.url("SITE_URL", default=None if PRODUCTION else "http://127.0.0.1:8000")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS") or [str(urlsplit(SITE_URL).hostname)]
if not PRODUCTION:
    ALLOWED_HOSTS += ["127.0.0.1", "localhost", "[::1]", "testserver"]
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

# --- Applications -----------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "django_htmx",
    "chartkick.django",
    "lucide",
    "rest_framework",
    "drf_spectacular",
    "accounts",
    "metering",
    "billing",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "accounts.middleware.RefuseNul",
    "accounts.middleware.ApiShortcut",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "accounts.middleware.AdminContentSecurityPolicy",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.csp",
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "accounts.context_processors.portal",
            ],
        },
    }
]

# --- Data -------------------------------------------------------------------------------------------------------------

DATABASES = {"default": env.database("DATABASE_URL", default=embedded.database_url(DATA_DIR))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Holds the counters of the sign-in rate limits and nothing else: they must be one for all processes, and the broker
# may be one that cannot count. The table is made by a migration of accounts.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cache_entry",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}

# --- Jobs -------------------------------------------------------------------------------------------------------------

CELERY_BROKER_URL = env.text("CELERY_BROKER_URL", default=None if PRODUCTION else embedded.broker_url(DATA_DIR))
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A task is given back when its worker dies: tasks are safe to run twice.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TIME_LIMIT = 600
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 900,  # longer than the longest task
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_connect_timeout": 2,
    "max_retries": 0,  # of a publisher's connection; a worker goes on trying by rules of its own
}
# A message only hurries work that a row already holds: publishing must never hold up a request.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BEAT_SCHEDULE = SCHEDULE
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat-schedule")

# --- Who signs in -----------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_UNIQUE_EMAIL = True
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 900
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "accounts:home"
ACCOUNT_LOGOUT_REDIRECT_URL = "public:front"

# --- Security ---------------------------------------------------------------------------------------------------------

SECRET_KEY = env.secret("SECRET_KEY", development="development-only-secret-key-never-used-in-production")
SECURE_CSP = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF, "data:"],
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "manifest-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "base-uri": [CSP.NONE],
    "frame-ancestors": [CSP.NONE],
}
# The admin's theme brings Alpine.js, which evaluates expressions and sets styles: allowed there and nowhere else.
ADMIN_CSP = {
    **SECURE_CSP,
    "script-src": [CSP.SELF, CSP.UNSAFE_EVAL, CSP.UNSAFE_INLINE],
    "style-src": [CSP.SELF, CSP.UNSAFE_INLINE],
}
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
HTTPS = SITE_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", default=HTTPS)
SECURE_HSTS_SECONDS = env.integer("SECURE_HSTS_SECONDS", default=31_536_000 if HTTPS else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
if env.flag("BEHIND_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# --- Languages, time, static files ------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = "config.formats"
USE_I18N = True
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "accounts.storage.StaticFilesStorage"},
}

# --- E-mail -----------------------------------------------------------------------------------------------------------

DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", default="Kilotoken <meter@example.com>")
SERVER_EMAIL = DEFAULT_FROM_EMAIL
SMTP_HOST = env.text("EMAIL_HOST", default=None if PRODUCTION else "")
# Without a mail server, messages go to the console and to the development mailbox page.
DEVELOPMENT_MAILBOX = DATA_DIR / "mailbox" if not SMTP_HOST else None
if SMTP_HOST:
    MAILERS = {
        "default": {
            "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "OPTIONS": {
                "host": SMTP_HOST,
                "port": env.integer("EMAIL_PORT", default=587),
                "username": env.text("EMAIL_USER", default=""),
                "password": env.text("EMAIL_PASSWORD", default=""),
                "use_tls": env.flag("EMAIL_USE_TLS", default=True),
                "timeout": 20,
            },
        }
    }
else:
    MAILERS = {"default": {"BACKEND": "accounts.mailbox.DevelopmentMailbox"}}
# Days for which it is kept who was sent an e-mail about keys and tokens; the audit log keeps the acts for ever.
NOTICES_KEPT_DAYS = env.integer("NOTICES_KEPT_DAYS", default=90, minimum=1)

# --- The REST API -----------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.api_auth.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.api_auth.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["accounts.api_bodies.StorableJsonParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "accounts.problems.exception_handler",
    "COERCE_DECIMAL_TO_STRING": True,
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Kilotoken",
    "DESCRIPTION": "The open meter for intelligence: events in, usage, bills and keys out.",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/v1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "accounts.api_document.describe_refusals",
    ],
}

# --- Metering ---------------------------------------------------------------------------------------------------------

# Events older than this are refused, so that an old resend can never be charged again.
LATE_WINDOW_DAYS = env.integer("LATE_WINDOW_DAYS", default=35, minimum=1)
# New series of one meter and organisation in a month; past it their labels read "(other)".
SERIES_PER_MONTH = env.integer("SERIES_PER_MONTH", default=10_000, minimum=1)
# Whole months of receipt for which events are kept; 0: for ever. Totals, bills and seals always are.
EVENT_RETENTION_MONTHS = env.integer("EVENT_RETENTION_MONTHS", default=0)
# Days for which ended holds and counters of ended windows are kept, never fewer than late events may need; 0: for ever.
HOLDS_KEPT_DAYS = env.integer("HOLDS_KEPT_DAYS", default=40)
# Days for which refused calls stay in the lists of operators and customers.
DENIALS_KEPT_DAYS = env.integer("DENIALS_KEPT_DAYS", default=30, minimum=1)
# Where each month is written to, and checked, before it is dropped. Empty: nowhere.
EVENT_ARCHIVE_DIR = env.text("EVENT_ARCHIVE_DIR", default="")
EVENT_ARCHIVE_FORMAT = env.choice("EVENT_ARCHIVE_FORMAT", ("ndjson", "parquet"), default="ndjson")
# Of an upload in the admin; the command import_usage takes files of any size.
USAGE_FILE_MAX_BYTES = 512 * 1024 * 1024
# Clocks of senders differ; events further ahead than this are refused.
FUTURE_TOLERANCE_SECONDS = env.integer("FUTURE_TOLERANCE_SECONDS", default=3600)
# A JSON body is held in memory whole; NDJSON is not, and may be of any length.
JSON_BODY_MAX_BYTES = 32 * 1024 * 1024
# LiteLLM puts up to 512 calls with their prompts and answers into one body, and never sends it again.
LITELLM_BODY_MAX_BYTES = 256 * 1024 * 1024

# Customers' webhooks may lead to addresses that only this machine can reach; never where customers are strangers.
WEBHOOKS_TO_PRIVATE_ADDRESSES = env.flag("WEBHOOKS_TO_PRIVATE_ADDRESSES", default=False)

# --- Billing and Stripe -----------------------------------------------------------------------------------------------

# Off: an operator closes periods, in the admin or with the command, after a look at the dry run.
AUTOMATIC_CLOSING = env.flag("AUTOMATIC_CLOSING", default=True)
# How long after a period's end late events are waited for before the period is closed.
CLOSING_GRACE_SECONDS = env.integer("CLOSING_GRACE_SECONDS", default=3600)
INVOICE_NUMBER_PREFIX = env.text("INVOICE_NUMBER_PREFIX", default="KT")
PAYMENT_TERM_DAYS = env.integer("PAYMENT_TERM_DAYS", default=14)
SELLER_NAME = env.text("SELLER_NAME", default="Kilotoken")
SELLER_ADDRESS = env.text("SELLER_ADDRESS", default="")
STRIPE_SECRET_KEY = env.text("STRIPE_SECRET_KEY", default="")
STRIPE_WEBHOOK_SECRETS = env.words("STRIPE_WEBHOOK_SECRET")
STRIPE_API_BASE = env.url("STRIPE_API_BASE", default="")
# Keeps ids of test and live accounts apart; also part of every idempotency key.
STRIPE_ENVIRONMENT = env.text(
    "STRIPE_ENVIRONMENT", default="live" if STRIPE_SECRET_KEY.startswith("sk_live") else "test"
)

# Whether customers may buy credit by themselves, where Stripe is configured.
CREDIT_TOP_UPS = env.flag("CREDIT_TOP_UPS", default=True)

# --- Admin ------------------------------------------------------------------------------------------------------------

UNFOLD = {
    "SITE_TITLE": "Kilotoken operators",
    "SITE_HEADER": "Kilotoken",
    "SITE_SUBHEADER": "Operators",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SITE_SYMBOL": "speed",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": "/favicon.ico"},
    ],
    "STYLES": [lambda request: static("css/admin.css")],
    "DASHBOARD_CALLBACK": "billing.admin.dashboard.dashboard",
    # The portal's petrol.
    "COLORS": {
        "primary": {
            "50": "oklch(97.6% .012 205)",
            "100": "oklch(94.2% .024 205)",
            "200": "oklch(88.8% .042 205)",
            "300": "oklch(81% .066 205)",
            "400": "oklch(70% .085 207)",
            "500": "oklch(58% .085 209)",
            "600": "oklch(47% .075 210)",
            "700": "oklch(41% .066 211)",
            "800": "oklch(36% .056 212)",
            "900": "oklch(31% .046 213)",
            "950": "oklch(23% .036 215)",
        },
    },
    "SIDEBAR": {"show_search": True, "navigation": ADMIN_NAVIGATION},
}

# --- Logging ----------------------------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.text("LOG_LEVEL", default="WARNING")},
    "loggers": {name: {"level": env.text("LOG_LEVEL", default="INFO")} for name in ("accounts", "metering", "billing")},
}
