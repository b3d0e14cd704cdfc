"""The order in which an endpoint is diagnosed."""

import asyncio
from typing import Literal

from portway.client.client import Client
from portway.client.errors import ClientError
from portway.diagnosis.admission import First, look_at_admission
from portway.diagnosis.endpoint import ANSWER_BYTES, SECONDS, Endpoint, NoAnswer
from portway.diagnosis.reach import look_at_reach
from portway.diagnosis.report import Report, Stopped
from portway.diagnosis.streams import Session, look_at_session, look_at_stream, look_at_versions, open_session
from portway.diagnosis.tool_list import look_at_tools, size_of
from portway.diagnosis.web_pages import look_at_web_pages
from portway.protocol.errors import RpcError

_LIST_SECONDS = 6 * SECONDS  # for all pages


async def diagnose(endpoint: Endpoint, idle_seconds: float, report: Report) -> None:
    """Fill the report. An event stream is held open for `idle_seconds`; with 0, none is opened."""
    try:
        await look_at_reach(endpoint, report)
        first = await look_at_admission(endpoint, report)
    except Stopped:
        return
    try:
        await look_at_versions(endpoint, first.legacy, first.modern, report)
        session = await open_session(endpoint, first.legacy, report) if first.legacy.is_result else None
        if session is not None:
            await look_at_session(endpoint, session, report)
        await look_at_web_pages(endpoint, report)
        await _look_at_list(endpoint, first, report)
        if idle_seconds:
            await _look_at_streams(endpoint, first, session, idle_seconds, report)
        await endpoint.end_sessions()
    except NoAnswer as error:
        report.finding("connection", f"the endpoint stopped to answer: {error}", "look into the log of the server")


async def _look_at_list(endpoint: Endpoint, first: First, report: Report) -> None:
    era: Literal["modern", "legacy"] = "modern" if first.modern.is_result else "legacy"
    try:
        async with (
            asyncio.timeout(_LIST_SECONDS),
            Client(endpoint.url, token=endpoint.token, era=era, timeout=SECONDS, message_bytes=ANSWER_BYTES) as client,
        ):
            tools = await client.list_tools()
    except TimeoutError:
        report.finding(
            "tools", f"the list of tools took more than {_LIST_SECONDS:g} s", "answer with fewer pages, and sooner"
        )
        return
    except (ClientError, RpcError) as error:
        report.finding("tools", f"the list of tools cannot be read: {error}", "look into the log of the server")
        return
    look_at_tools(tools, size_of(tools), report)


async def _look_at_streams(
    endpoint: Endpoint, first: First, session: Session | None, idle_seconds: float, report: Report
) -> None:
    if session is not None and session.id:
        await look_at_stream(endpoint, session, idle_seconds, report)
    elif first.modern.is_result:
        await look_at_stream(endpoint, None, idle_seconds, report)
    else:
        report.fact("streams", "a server without sessions has none outside of calls")
