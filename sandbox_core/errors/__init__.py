"""All errors with a code, as one tree. Errors contain data; `error_text` turns them into sentences.

SandboxError
├── NameTaken                 SANDBOX_001
├── OwnerLimitReached         SANDBOX_002
├── GuildAlreadyMapped        SANDBOX_003
├── SandboxNotFound           SANDBOX_004
├── SchemaCreationFailed      SANDBOX_005
├── CleanupFailed             SANDBOX_006
├── ResetUnfinished           SANDBOX_006
├── StillWritten              SANDBOX_006
├── InvalidInput              SANDBOX_007
│   ├── SandboxNotNamed       SANDBOX_007
│   └── BotNotInGuild         SANDBOX_007
├── SandboxNotRunning         SANDBOX_008
├── TransitionNotAllowed      SANDBOX_009
├── NotPermitted              SANDBOX_010
│   ├── GuildProtected        SANDBOX_010
│   └── ConfirmationNeeded    SANDBOX_010
├── GuildNotRegistered        SANDBOX_011
├── DependencyUnavailable     SANDBOX_012
│   ├── DependencyFaulty      SANDBOX_012
│   ├── NotFinished           SANDBOX_012
│   ├── RotationUnfinished    SANDBOX_012
│   ├── SharingUnfinished     SANDBOX_012
│   ├── OutcomeUnknown        SANDBOX_012
│   ├── CutOff                SANDBOX_012
│   ├── LoginRefused          SANDBOX_012
│   ├── NotMigrated           SANDBOX_012
│   └── StreamUnusable        SANDBOX_012
├── IsolationImpossible       SANDBOX_013
├── NoCredentials             SANDBOX_013
├── SharingImpossible         SANDBOX_013
├── ProductionTokenOutdated   SANDBOX_013
├── GuildLimitReached         SANDBOX_014
├── ShareLimitReached         SANDBOX_014
├── SlotsUsedUp               SANDBOX_014
├── StorageUsedUp             SANDBOX_014
└── DoesNotFit                SANDBOX_015
"""

from __future__ import annotations

from ._base import (
    SandboxError,
)
from ._isolation import (
    IsolationImpossible,
    NoCredentials,
    ProductionTokenOutdated,
    SharingImpossible,
    SlotsUsedUp,
)
from ._requests import (
    BotNotInGuild,
    ConfirmationNeeded,
    DoesNotFit,
    GuildAlreadyMapped,
    GuildLimitReached,
    GuildNotRegistered,
    GuildProtected,
    InvalidInput,
    NameTaken,
    NotPermitted,
    OwnerLimitReached,
    SandboxNotFound,
    SandboxNotNamed,
    SandboxNotRunning,
    ShareLimitReached,
    StorageUsedUp,
    TransitionNotAllowed,
)
from ._servers import (
    CleanupFailed,
    CutOff,
    DependencyFaulty,
    DependencyUnavailable,
    LoginRefused,
    NotFinished,
    NotMigrated,
    OutcomeUnknown,
    ResetUnfinished,
    RotationUnfinished,
    SchemaCreationFailed,
    SharingUnfinished,
    StillWritten,
    StreamUnusable,
)

__all__ = [
    "ERROR_CODES",
    "BotNotInGuild",
    "CleanupFailed",
    "ConfirmationNeeded",
    "CutOff",
    "DependencyFaulty",
    "DependencyUnavailable",
    "DoesNotFit",
    "GuildAlreadyMapped",
    "GuildLimitReached",
    "GuildNotRegistered",
    "GuildProtected",
    "InvalidInput",
    "IsolationImpossible",
    "LoginRefused",
    "NameTaken",
    "NoCredentials",
    "NotFinished",
    "NotMigrated",
    "NotPermitted",
    "OutcomeUnknown",
    "OwnerLimitReached",
    "ProductionTokenOutdated",
    "ResetUnfinished",
    "RotationUnfinished",
    "SandboxError",
    "SandboxNotFound",
    "SandboxNotNamed",
    "SandboxNotRunning",
    "SchemaCreationFailed",
    "ShareLimitReached",
    "SharingImpossible",
    "SharingUnfinished",
    "SlotsUsedUp",
    "StillWritten",
    "StorageUsedUp",
    "StreamUnusable",
    "TransitionNotAllowed",
]


def _codes(kind: type[SandboxError]) -> set[str]:
    return {code for each in kind.__subclasses__() for code in (each.code, *_codes(each))}


ERROR_CODES = tuple(sorted(_codes(SandboxError)))
"""All codes of the tree."""
