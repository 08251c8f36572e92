"""What the fleet knows of the breakers and the calls of an instance, as it lies in Redis. One step, one round trip.

A breaker is a hash: `state` (closed if it is not there), `failures` in a row, `openings` so far, `opened_at`, and of
the probe that is out `probe` and `probe_until`. The calls in flight are a sorted set of ids, by when each is certainly
over: those of a process that died are forgotten then. All times are by the clock of Redis.
"""

import logging
from dataclasses import dataclass

import pybreaker

from gateway.redis_script import Script
from integrations import fleet

logger = logging.getLogger(__name__)

KEPT_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Keys:
    base_url: str
    method: str
    is_search: bool = False

    @property
    def breaker(self) -> str:
        """Of searches their own: an instance is not ill, nor left alone, since somebody searches for too much."""
        return f"service-breaker:{'SEARCH' if self.is_search else self.method} {self.base_url}"

    @property
    def in_flight(self) -> str:
        """Of searches their own: anybody may search, and that must not keep an instance from getting work."""
        return f"service-searches:{self.base_url}" if self.is_search else self.in_flight_of(self.base_url)

    @staticmethod
    def in_flight_of(base_url: str) -> str:
        return f"service-in-flight:{base_url}"

    @staticmethod
    def turn_of(base_url: str) -> str:
        return f"service-probe:{base_url}"


class FleetStorage(pybreaker.CircuitMemoryStorage):
    """What one call saw of a breaker when it began; what pybreaker makes of its end goes to Redis.

    Of each call its own: so nothing that a process remembers of earlier can undo what others have found out since.
    And what others have turned meanwhile stays as it is: of many calls that time out together, one opens the breaker.
    """

    def __init__(self, keys: Keys, call_id: str, state: str, *, failures: int, openings: int) -> None:
        super().__init__(state)
        self._fail_counter = failures
        self._keys = [keys.breaker]
        self._seen = (state, openings, call_id, KEPT_SECONDS)

    @property
    def state(self) -> str:
        return super().state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state
        if fleet.ask(lambda redis: TURN(redis, self._keys, *self._seen, state), 0):
            logger.warning("the breaker for %s is %s", self._keys[0].partition(":")[2], state)

    def increment_counter(self) -> None:
        self._fail_counter = fleet.ask(lambda redis: FAIL(redis, self._keys, *self._seen), 0)

    def reset_counter(self) -> None:
        if self._fail_counter:
            fleet.ask(lambda redis: redis.hdel(self._keys[0], "failures"), None)
        self._fail_counter = 0


_NOW = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
"""

# Whether the breaker is as the call saw it; for a probe, whether it is still the one that is out.
_UNCHANGED = """
local function unchanged()
  local is = redis.call('HMGET', KEYS[1], 'state', 'openings', 'probe')
  return (is[1] or 'closed') == ARGV[1] and (is[2] or '0') == ARGV[2] and (ARGV[1] == 'closed' or is[3] == ARGV[3])
end
"""

# KEYS: breaker, in flight. ARGV: id, seconds until it is over, seconds that a breaker stays open, limit or ''.
ADMIT = Script(f"""
{_NOW}
local is = redis.call('HMGET', KEYS[1], 'state', 'failures', 'openings', 'opened_at', 'probe_until')
local state = is[1] or 'closed'
if state ~= 'closed' and (now < tonumber(is[4] or 0) + ARGV[3] or now < tonumber(is[5] or 0)) then
  return {{'open'}}
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if ARGV[4] ~= '' and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then
  return {{'busy'}}
end
if state ~= 'closed' then
  state = 'half-open'
  redis.call('HSET', KEYS[1], 'state', state, 'probe', ARGV[1], 'probe_until', now + ARGV[2])
end
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], math.ceil(ARGV[2]))
return {{state, tonumber(is[2] or 0), tonumber(is[3] or 0)}}
""")

# KEYS: breaker. ARGV: state and openings as the call saw them, its id, seconds to keep it. Returns the failures.
FAIL = Script(f"""
{_UNCHANGED}
if not unchanged() then
  return 0
end
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
redis.call('EXPIRE', KEYS[1], ARGV[4])
return failures
""")

# The same, and the state that it gets.
TURN = Script(f"""
{_UNCHANGED}
if not unchanged() then
  return 0
end
redis.call('HDEL', KEYS[1], 'state', 'failures', 'opened_at', 'probe', 'probe_until')
if ARGV[5] == 'open' then
  {_NOW}
  redis.call('HSET', KEYS[1], 'state', 'open', 'opened_at', now)
  redis.call('HINCRBY', KEYS[1], 'openings', 1)
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
""")

# KEYS: breaker, in flight. ARGV: id. The probe is over, whatever came of it.
RELEASE = Script("""
if redis.call('HGET', KEYS[1], 'probe') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'probe', 'probe_until')
end
return redis.call('ZREM', KEYS[2], ARGV[1])
""")

# KEYS: breakers. Those that are closed by hand; calls that began before have no say any more.
FORGET = Script("""
for _, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then
    redis.call('HDEL', key, 'state', 'failures', 'opened_at', 'probe', 'probe_until')
    redis.call('HINCRBY', key, 'openings', 1)
  end
end
return #KEYS
""")

# KEYS: of each instance its breakers (GET, POST), then its calls in flight. ARGV: seconds that a breaker stays open.
STANDINGS = Script(f"""
{_NOW}
local found = {{}}
for at, key in ipairs(KEYS) do
  if at % 3 == 0 then
    found[at] = redis.call('ZCOUNT', key, now, '+inf')
  else
    local is = redis.call('HMGET', key, 'state', 'opened_at', 'probe_until')
    if (is[1] or 'closed') == 'closed' then
      found[at] = 'closed'
    elseif now < tonumber(is[2] or 0) + ARGV[1] or now < tonumber(is[3] or 0) then
      found[at] = 'open'
    else
      found[at] = 'half_open'
    end
  end
end
return found
""")
