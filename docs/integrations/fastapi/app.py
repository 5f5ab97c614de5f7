"""A service with Doorward's users: `uvicorn app:app --port 9000`."""

import os
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Response

from doorward_auth import Asking, Offline, User

URL, SERVICE_TOKEN = os.environ["DOORWARD_URL"], os.environ["DOORWARD_SERVICE_TOKEN"]
ALGORITHM = os.environ.get("DOORWARD_ALGORITHM", "EdDSA")

if ALGORITHM.startswith("HS"):
    doorward = Asking(URL, SERVICE_TOKEN)
else:
    doorward = Offline(
        URL,
        SERVICE_TOKEN,
        ALGORITHM,
        longest_token=60 * int(os.environ.get("ACCESS_TOKEN_EXPIRE_MINUTES", "30")),
        silence=float(os.environ.get("DOORWARD_SILENCE", "45")),
        refetch=float(os.environ.get("DOORWARD_REFETCH", "30")),
    )


@asynccontextmanager
async def lifespan(_: FastAPI):
    async with doorward:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/me")
async def me(user: User = Depends(doorward.user)):
    return user


@app.get("/admin")
async def admin(user: User = Depends(doorward.role("admin"))):
    return {"secret": f"for {user.nickname}"}


@app.get("/health/ready")
async def ready(response: Response):
    """Keeps requests away while no token can be checked."""
    if isinstance(doorward, Offline) and not doorward.up_to_date():
        response.status_code = 503
    return {}
