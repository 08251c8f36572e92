"""The socket (`/ws`): sign-in, subscriptions and the end of both. The protocol is in docs/realtime.md."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import DatabaseError
from django.utils import timezone

from accounts.sign_in import SignIn, sign_in_by_credential, sign_in_by_token
from gateway.api.errors import CATALOGUE, ApiError, ErrorCode
from gateway.origin import origin_of_scope
from notifications.broadcast import ALL_SOCKETS, SERVICES, command_group, session_group, user_group
from notifications.closing import CloseCode, SocketClosedError
from notifications.delivery import Delivery, read_last_seqs
from notifications.frames import (
    Frame,
    FrameError,
    error_text,
    frame_text,
    read_after,
    read_frame,
    read_rooms,
    read_token,
)
from notifications.rooms import SERVICES_ROOM, CommandRoom, command_of_room
from notifications.tickets import ticket_redeem

logger = logging.getLogger(__name__)

SIGN_IN_SECONDS = 5.0
HEARTBEAT_SECONDS = 30
CHECK_SECONDS = 10.0  # between two looks at what the channel layer may have failed to tell
SPREAD_SECONDS = 1.0  # over which all sockets look again, when what many may do has changed
SEND_SECONDS = 20.0  # for one frame to a client that reads slowly
CLOSE_SECONDS = 10.0  # for the last frames to it
REDIS_SECONDS = 5.0  # for leaving all groups
MAX_ROOMS = 200
# A room tells what this route tells: whom a rule keeps from the one gets the other no more.
READ_PERMISSION, READ_ROUTE = "commands.read_own_command", "GET command-events"
SERVICES_PERMISSION, SERVICES_ROUTE = "integrations.view_serviceinstance", "GET services"


class GatewayConsumer(AsyncWebsocketConsumer):
    """One socket of one person.

    It is three tasks: Channels reads, and calls the handlers below one after the other; `delivery` writes; `_check`
    looks now and then whether all is well. The first of them to end, or the clock, ends the socket, and then nothing
    of it is left. No handler waits for the client to read: what the channel layer brings would pile up meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sign_in: SignIn | None = None
        self.delivery = Delivery(self._send_in_time)
        self.channel_name = ""
        self._accepted = False
        self._groups: set[str] = set()
        self._look_again = asyncio.Event()
        self._time: asyncio.Timeout

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with origin_of_scope(scope):
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        reading = asyncio.create_task(super().__call__(scope, receive, send))
        writing = asyncio.create_task(self.delivery.run())
        tasks = [reading, writing, asyncio.create_task(self._check())]
        try:
            code = await self._end_of(tasks)
            await asyncio.wait([writing])  # nothing of it goes out any more
            if code is not None:
                await self._say_goodbye(send, code)
        finally:
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._leave(*self._groups)
            await self._close_channel()

    async def connect(self) -> None:
        await self.accept()
        self._accepted = True
        credentials = self._credentials()
        if credentials is not None:
            read, raw = credentials
            await self._sign_in(read, raw)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            frame = read_frame(text_data)
            await self._handler_of(frame)(frame)
        except FrameError as error:
            self.delivery.answer(error_text(error))

    def _handler_of(self, frame: Frame) -> Callable[[Frame], Awaitable[None]]:
        handlers = {
            "ping": self._on_ping,
            "auth": self._on_auth,
            "subscribe": self._on_subscribe,
            "unsubscribe": self._on_unsubscribe,
        }
        if frame.type not in handlers:
            raise FrameError("unknown_type", f"type: there is no {frame.type!r}.", frame.id)
        if self.sign_in is None and frame.type not in ("auth", "ping"):
            raise FrameError("not_authenticated", "Sign in first.", frame.id)
        return handlers[frame.type]

    # --- frames of the client ---------------------------------------------------------------------------------------

    async def _on_ping(self, frame: Frame) -> None:
        self.delivery.answer(frame_text("pong", None, frame.id))

    async def _on_auth(self, frame: Frame) -> None:
        await self._sign_in(sign_in_by_token, read_token(frame), frame.id)

    async def _on_subscribe(self, frame: Frame) -> None:
        rooms, after = read_rooms(frame), read_after(frame)
        commands = {room: command_of_room(room) for room in rooms if room != SERVICES_ROOM}
        sign_in = await self._signed_in_still()
        allowed = _may_read(sign_in)
        wanted = [command_id for command_id in commands.values() if command_id] if allowed else []
        known = await read_last_seqs(sign_in.user, wanted)
        joined: dict[str, CommandRoom] = {}
        denied: list[dict[str, str]] = []
        members = set(self.delivery.rooms)
        for room, command_id in commands.items():
            if command_id is None:
                denied.append({"room": room, "code": "unknown_room"})
            elif not allowed:
                denied.append({"room": room, "code": str(ErrorCode.PERMISSION_DENIED)})
            elif command_id not in known:
                denied.append({"room": room, "code": "not_found"})
            elif len(members | {command_id}) > MAX_ROOMS:
                denied.append({"room": room, "code": "too_many_rooms"})
            else:
                members.add(command_id)
                joined[room] = _room_from(command_id, after.get(room, 0), *known[command_id])
        others, denied_others = await self._join_services(sign_in) if SERVICES_ROOM in rooms else ([], [])
        # First the groups, then the look into the database that delivery begins with: nothing falls between them.
        for command_id in members:
            await self._enter(command_group(command_id))
        answer = {"rooms": [*joined, *others], "denied": [*denied, *denied_others]}
        self.delivery.answer(frame_text("subscribed", answer, frame.id))
        for command_room in joined.values():
            self.delivery.join(command_room)

    async def _join_services(self, sign_in: SignIn) -> tuple[list[str], list[dict[str, str]]]:
        """Return the room if it could be joined, else why not."""
        if not _may_see_services(sign_in):
            return [], [{"room": SERVICES_ROOM, "code": str(ErrorCode.PERMISSION_DENIED)}]
        await self._enter(SERVICES)
        return [SERVICES_ROOM], []

    async def _on_unsubscribe(self, frame: Frame) -> None:
        rooms = read_rooms(frame)
        commands = {room: command_of_room(room) for room in rooms}
        left = {room: command_id for room, command_id in commands.items() if command_id in self.delivery.rooms}
        for command_id in left.values():
            self.delivery.leave(command_id)
        others = [SERVICES_ROOM] if SERVICES_ROOM in rooms and SERVICES in self._groups else []
        if others:
            self.delivery.leave_services()
        self.delivery.answer(frame_text("unsubscribed", {"rooms": [*left, *others]}, frame.id))
        groups = [command_group(command_id) for command_id in left.values()]
        await self._leave(*groups, *([SERVICES] if others else []))

    # --- news from the channel layer --------------------------------------------------------------------------------

    async def command_event(self, message: dict[str, Any]) -> None:
        self.delivery.hear(message["payload"])

    async def service_changed(self, message: dict[str, Any]) -> None:
        if SERVICES in self._groups:  # it may have been on its way when the room was left
            self.delivery.hear_of_service(message["payload"])

    async def session_ended(self, _message: dict[str, Any]) -> None:
        raise SocketClosedError(CloseCode.NOT_SIGNED_IN)

    async def access_changed(self, message: dict[str, Any]) -> None:
        if message["of_many"]:
            delay = random.uniform(0, SPREAD_SECONDS)  # noqa: S311 - so that not all ask at once, no secret
            asyncio.get_running_loop().call_later(delay, self._look_again.set)
        else:
            self._look_again.set()

    # --- sign-in ----------------------------------------------------------------------------------------------------

    def _credentials(self) -> tuple[Callable[[str], SignIn], str] | None:
        """Return what the request itself brought: a ticket or an Authorization header."""
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        if "ticket" in query:
            return ticket_redeem, query["ticket"][0]
        header = dict(self.scope["headers"]).get(b"authorization", b"").decode("latin-1")
        scheme, _, token = header.partition(" ")
        return (sign_in_by_token, token.strip()) if scheme.lower() == "bearer" else None

    async def _sign_in(self, read: Callable[[str], SignIn], raw: str, frame_id: str | int | None = None) -> None:
        """Sign in, or stay signed in with a fresh token. Who cannot is told why and shown out."""
        try:
            sign_in = await database_sync_to_async(read)(raw)
        except ApiError as error:
            self._tell(error.error_code, str(error.detail), frame_id)
            if self.sign_in is None:
                raise SocketClosedError(CloseCode.NOT_SIGNED_IN) from error
            return
        if self.sign_in is not None and self.sign_in.user != sign_in.user:
            self._tell(ErrorCode.PERMISSION_DENIED, "The token is another person's: open another socket.", frame_id)
            raise SocketClosedError(CloseCode.FORBIDDEN)
        if self.sign_in is not None and self.sign_in.credential_id != sign_in.credential_id:
            await self._leave(session_group(self.sign_in.credential_id))
        for group in (session_group(sign_in.credential_id), user_group(sign_in.user.pk), ALL_SOCKETS):
            await self._enter(group)
        self._admit(sign_in, frame_id)
        await self._signed_in_still(frame_id)  # what ended before the groups were entered was not heard of
        seconds = (sign_in.expires_at - timezone.now()).total_seconds()
        self._time.reschedule(asyncio.get_running_loop().time() + seconds)
        payload = {
            "user": {"id": str(sign_in.user.id), "username": sign_in.user.username},
            "session_id": str(sign_in.credential_id),
            "heartbeat_seconds": HEARTBEAT_SECONDS,
            "resume": True,
        }
        self.delivery.answer(frame_text("ready", payload, frame_id))

    async def _signed_in_still(self, frame_id: str | int | None = None) -> SignIn:
        """Return what the person may do now. Who may not be here any more is told why and shown out."""
        while True:
            before = self.sign_in
            assert before is not None  # noqa: S101 - receive() lets nobody else through
            ended = None
            try:
                now = await database_sync_to_async(sign_in_by_credential)(before.credential_id, before.expires_at)
            except ApiError as error:
                ended = error
            if self.sign_in is not before:
                continue  # somebody else has looked meanwhile, or a fresh token came
            if ended is not None:
                self._tell(ended.error_code, str(ended.detail), frame_id)
                raise SocketClosedError(CloseCode.NOT_SIGNED_IN)
            self._admit(now, frame_id)
            return now

    def _admit(self, sign_in: SignIn, frame_id: str | int | None) -> None:
        """Go on with this sign-in; show out who must do something else first, or may not read any more."""
        before, self.sign_in = self.sign_in, sign_in
        reasons = list(sign_in.obligations)
        if before is not None and _may_read(before) and not _may_read(sign_in):
            reasons.append(ErrorCode.PERMISSION_DENIED)
        if SERVICES in self._groups and not _may_see_services(sign_in):
            reasons.append(ErrorCode.PERMISSION_DENIED)
        if reasons:
            self._tell(reasons[0], str(CATALOGUE[reasons[0]].title), frame_id)
            raise SocketClosedError(CloseCode.FORBIDDEN)

    async def _check(self) -> None:
        """Look again when something has changed, and now and then: the channel layer may lose any message."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._look_again.wait()
            self._look_again.clear()
            if self.sign_in is not None:
                try:
                    sign_in = await self._signed_in_still()
                    await self.delivery.resync(sign_in.user)
                except DatabaseError as error:  # a short outage is no reason to send everybody away
                    logger.warning("a socket could not be checked: %r", error)

    # --- the line ---------------------------------------------------------------------------------------------------

    def _tell(self, code: ErrorCode, detail: str, frame_id: str | int | None) -> None:
        self.delivery.answer(error_text(FrameError(str(code), detail, frame_id)))

    async def _send_in_time(self, text: str) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self.send(text)
        except TimeoutError:
            raise SocketClosedError(CloseCode.TOO_SLOW) from None

    async def _end_of(self, tasks: list[asyncio.Task[None]]) -> CloseCode | None:
        """Wait until the first task ends, and stop the others.

        Return the code to close the socket with, None if the client has gone already.
        """
        try:
            async with asyncio.timeout(SIGN_IN_SECONDS) as self._time:
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            return CloseCode.SIGN_IN_TIMED_OUT if self.sign_in is None else CloseCode.NOT_SIGNED_IN
        finally:
            for task in tasks:
                task.cancel()
        try:
            for task in ended:
                task.result()
        except SocketClosedError as error:
            return error.code
        except OSError:  # how ASGI says, when something is sent, that there is nobody to send it to
            return None
        except Exception:
            # It must not go on and look alive: the client is to come back.
            logger.exception("a socket broke down")
            return CloseCode.RESTART
        return None

    async def _say_goodbye(self, send: Any, code: CloseCode) -> None:
        with suppress(OSError):  # the client has gone, or does not read even this (TimeoutError)
            async with asyncio.timeout(CLOSE_SECONDS):
                if not self._accepted:
                    await send({"type": "websocket.accept"})
                for text in self.delivery.take_answers():
                    await send({"type": "websocket.send", "text": text})
                await send({"type": "websocket.close", "code": int(code)})

    async def _enter(self, group: str) -> None:
        if group not in self._groups:
            self._groups.add(group)
            await self.channel_layer.group_add(group, self.channel_name)

    async def _leave(self, *groups: str) -> None:
        """Leave groups. The channel layer forgets at once, even when Redis, which it tells then, is down."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REDIS_SECONDS):
                discards = (self.channel_layer.group_discard(group, self.channel_name) for group in groups)
                await asyncio.gather(*discards, return_exceptions=True)
        self._groups.difference_update(groups)

    async def _close_channel(self) -> None:
        """Forget what the channel layer holds for this socket.

        The layer does so when a receive() that waits is cancelled. Channels cancels one in the end, but it does not
        wait any more if a message came just then: without this, the queue and its subscription would stay for ever.
        """
        if not self.channel_name:
            return  # it never had one: Redis was down
        layer: Any = self.channel_layer
        while self.channel_name in layer.channels:
            with suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await layer.receive(self.channel_name)


def _may_read(sign_in: SignIn) -> bool:
    return sign_in.allows(READ_PERMISSION) and READ_ROUTE not in sign_in.denied_routes


def _may_see_services(sign_in: SignIn) -> bool:
    return sign_in.allows(SERVICES_PERMISSION) and SERVICES_ROUTE not in sign_in.denied_routes


def _room_from(command_id: UUID, after: int, last_seq: int, ended: bool) -> CommandRoom:  # noqa: FBT001 - as it is stored
    seq = min(after, last_seq)
    return CommandRoom(command_id, seq=seq, target=last_seq, ended=ended and seq == last_seq)
