"""How the installation is, for its administrator."""

from fastapi import APIRouter, Request

from index.access.keys import ADMIN

from ..access import requires
from ..operations import Operations
from ..schemas import OperationsReply

__all__ = ["router"]

router = APIRouter(prefix="/v1/operations", tags=["service"], dependencies=[requires(ADMIN)])


@router.get("")
async def operations(request: Request) -> OperationsReply:
    """The archive, its index, jobs, backups and disk, and the process that answers; nothing about a patient.

    Each part says when it was read. Small archives are read anew for every call some seconds apart; what takes long is
    read beside, and rarely. A part that cannot be read says why, and keeps its last values. Answered also when the
    service turns others away.
    """
    found: Operations = request.app.state.operations
    return await found.reply()
