"""`python -m aisix_common.install COMMAND`: the jobs of an installation.

Progress goes to stdout, a line a step, and says nothing secret. Exit codes: 0 done, 1 not done (stderr says why and
what to do), 2 for a wrong command line. Every command may be run again.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from aisix_common.settings.storage import Etcd
from aisix_common.streams import open_closed_streams

from .ensure_secrets import EtcdTls, Wanted, ensure
from .etcd_api import EtcdApi, Refused, Tls
from .etcd_auth import Credential, set_up
from .etcd_backup import back_up
from .etcd_maintain import maintain
from .etcd_restore import make_room
from .kubernetes import SERVICE_ACCOUNT, Secrets, cluster
from .progress import Failed, Job
from .roles import SERVICES, roles

Run = Callable[[argparse.Namespace, Job, Mapping[str, str]], None]


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run the command and give its exit code. `arguments` without the program's name; default: those of the process."""
    open_closed_streams()
    options = _parser().parse_args(arguments)
    job = Job(_say, time.monotonic() + options.timeout)
    try:
        _COMMANDS[options.command](options, job, environ)
    except Failed as failed:
        sys.stderr.write(f"Error: {failed}\n")
        return 1
    except Refused as refused:
        sys.stderr.write(f"Error: etcd refused: {refused}\n")
        return 1
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _ensure_secrets(options: argparse.Namespace, job: Job, environ: Mapping[str, str]) -> None:
    tls = None
    if options.etcd_server_secret:
        tls = EtcdTls(
            options.etcd_ca_secret or f"{options.etcd_server_secret}-ca",
            options.etcd_server_secret,
            tuple(options.etcd_host),
            dict(options.etcd_client_secret),
            options.renew_before,
        )
    wanted = Wanted(
        labels=dict(options.label),
        admin=(options.admin_secret, options.admin_key) if options.admin_secret else None,
        keyring=(options.keyring_secret, tuple(options.keyring_key or ["k1"])) if options.keyring_secret else None,
        etcd_auth=options.etcd_auth_secret,
        etcd_tls=tls,
    )
    where = cluster(environ, options.service_account)
    ensure(wanted, Secrets(where, options.namespace or where.namespace, job), datetime.now(UTC), _say)


def _etcd_auth(options: argparse.Namespace, job: Job, environ: Mapping[str, str]) -> None:
    if options.credentials is None:
        raise Failed("--credentials is needed: the folder with everybody's password")
    etcd = Etcd(prefix=options.prefix, env_id=options.env_id)
    granted = roles(etcd, managed=options.managed)
    users = {service: _credential(options.credentials, service) for service in SERVICES if service in granted}
    set_up(_etcd(options, job), _credential(options.credentials, "root"), users, granted, _say)


def _etcd_maintain(options: argparse.Namespace, job: Job, environ: Mapping[str, str]) -> None:
    maintain(_as_root(options, job), job, keep_revisions=options.keep_revisions, quota_bytes=options.quota_bytes)


def _etcd_backup(options: argparse.Namespace, job: Job, environ: Mapping[str, str]) -> None:
    back_up(_as_root(options, job), options.folder, options.keep, datetime.now(UTC), _say)


def _etcd_restore(options: argparse.Namespace, job: Job, environ: Mapping[str, str]) -> None:
    make_room(options.snapshot, options.data, datetime.now(UTC), job, _say)


_COMMANDS: Final[Mapping[str, Run]] = MappingProxyType(
    {
        "ensure-secrets": _ensure_secrets,
        "etcd-auth": _etcd_auth,
        "etcd-maintain": _etcd_maintain,
        "etcd-backup": _etcd_backup,
        "etcd-restore": _etcd_restore,
    }
)


def _etcd(options: argparse.Namespace, job: Job) -> EtcdApi:
    files = (options.ca, options.cert, options.key)
    if any(files) and not all(files):
        raise Failed("--ca, --cert and --key are needed together")
    return EtcdApi(options.endpoint, Tls(*files) if all(files) else None, job)


def _as_root(options: argparse.Namespace, job: Job) -> EtcdApi:
    etcd = _etcd(options, job)
    if options.credentials is not None:
        root = _credential(options.credentials, "root")
        etcd.login(root.user, root.password)
    return etcd


def _credential(folder: Path, who: str) -> Credential:
    named = folder / f"{who}-user"
    try:
        user = named.read_text().strip() if who != "root" and named.exists() else who
        return Credential(user, (folder / f"{who}-password").read_text().strip())
    except OSError as error:
        raise Failed(f"{error.filename} cannot be read ({error.strerror}): mount the Secret with etcd's credentials")


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator and value):
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aisix_common.install", description="The jobs of an installation.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str, seconds: float) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.add_argument(
            "--timeout", type=float, default=seconds, metavar="SECONDS", help=f"give up after; {seconds:g}"
        )
        return made

    _secrets_options(command("ensure-secrets", "make the Secrets that are missing; those that are there stay", 120))
    auth = command("etcd-auth", "give etcd its users and roles, and turn authentication on", 300)
    _etcd_options(auth)
    auth.add_argument("--prefix", default="/aisix", help="etcd.prefix of the services")
    auth.add_argument("--env-id", default="", help="etcd.env_id of the services")
    auth.add_argument("--managed", action="store_true", help="for proxy and cloud agent; default: proxy and admin")
    care = command("etcd-maintain", "compact and defragment etcd", 600)
    _etcd_options(care)
    care.add_argument("--keep-revisions", type=_at_least_one, default=10000, metavar="N", help="history that is kept")
    care.add_argument("--quota-bytes", type=int, default=0, metavar="N", help="etcd's quota-backend-bytes")
    backup = command("etcd-backup", "write a snapshot of etcd into a folder", 600)
    _etcd_options(backup)
    backup.add_argument("--folder", type=Path, required=True, help="where snapshots are")
    backup.add_argument("--keep", type=_at_least_one, default=7, metavar="N", help="snapshots that are kept")
    restore = command("etcd-restore", "check a snapshot and set etcd's data aside for it", 300)
    restore.add_argument("--snapshot", type=Path, required=True, help="the file")
    restore.add_argument("--data", type=Path, required=True, help="etcd's data folder")
    return parser


def _etcd_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--endpoint", action="append", required=True, metavar="URL", help="a member; one for each")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="authority of etcd's certificate")
    parser.add_argument("--cert", type=Path, metavar="FILE", help="our certificate")
    parser.add_argument("--key", type=Path, metavar="FILE", help="its key")
    parser.add_argument(
        "--credentials",
        type=Path,
        metavar="FOLDER",
        help="with root-password and <service>-password; <service>-user where its name is another",
    )


def _secrets_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--namespace", default="", help="default: that of the pod")
    parser.add_argument("--label", type=_pair, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--admin-secret", metavar="NAME")
    parser.add_argument("--admin-key", default="admin-key", metavar="KEY", help="its key in there")
    parser.add_argument("--keyring-secret", metavar="NAME")
    parser.add_argument("--keyring-key", action="append", metavar="ID", help="default: k1")
    parser.add_argument("--etcd-auth-secret", metavar="NAME")
    parser.add_argument("--etcd-ca-secret", metavar="NAME")
    parser.add_argument("--etcd-server-secret", metavar="NAME")
    parser.add_argument("--etcd-host", action="append", default=[], metavar="HOST", help="of etcd's certificate")
    parser.add_argument("--etcd-client-secret", type=_pair, action="append", default=[], metavar="COMPONENT=NAME")
    parser.add_argument(
        "--renew-before", type=float, default=0, metavar="DAYS", help="issue certificates anew that end within; 0: none"
    )
    parser.add_argument("--service-account", type=Path, default=SERVICE_ACCOUNT, metavar="FOLDER")


if __name__ == "__main__":
    sys.exit(main())
