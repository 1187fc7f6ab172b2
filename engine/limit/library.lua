#!lua name=xcord_limit

-- take gives out of what a window still has. A refusal writes nothing.
-- KEYS: window
-- ARGV: how many are wanted, how many a window has, its length in ms
-- Reply: how many were given, how many are left, ms until the window ends.
local function take(keys, args)
  local max = tonumber(args[2])
  local left = max - tonumber(redis.call('GET', keys[1]) or '0')
  local given = math.max(0, math.min(tonumber(args[1]), left))
  if given > 0 then redis.call('INCRBY', keys[1], given) end
  local ms = redis.call('PTTL', keys[1])
  if ms < 0 then
    ms = tonumber(args[3])
    redis.call('PEXPIRE', keys[1], ms)
  end
  return {given, math.max(0, left - given), ms}
end

-- give takes one back.
-- KEYS: window
local function give(keys)
  if tonumber(redis.call('GET', keys[1]) or '0') > 0 then return redis.call('DECR', keys[1]) end
  return 0
end

-- beat says that a gateway lives, and how many it counts.
-- KEYS: when each was heard last, how many each counts
-- ARGV: gateway, how many it counts, ms after which one that is not heard is gone
-- Reply: how many live, and the least that one of them counts.
local function beat(keys, args)
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  redis.call('ZADD', keys[1], now, args[1])
  redis.call('HSET', keys[2], args[1], args[2])
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', keys[1], '-inf', now - tonumber(args[3]))) do
    redis.call('ZREM', keys[1], gone)
    redis.call('HDEL', keys[2], gone)
  end
  local least
  for _, n in ipairs(redis.call('HVALS', keys[2])) do least = math.min(least or tonumber(n), tonumber(n)) end
  return {redis.call('ZCARD', keys[1]), least}
end

-- leave says that a gateway is gone.
-- KEYS: when each was heard last, how many each counts
-- ARGV: gateway
local function leave(keys, args)
  redis.call('ZREM', keys[1], args[1])
  return redis.call('HDEL', keys[2], args[1])
end

redis.register_function{function_name = 'xcord_limit_take', callback = take}
redis.register_function{function_name = 'xcord_limit_give', callback = give}
redis.register_function{function_name = 'xcord_limit_beat', callback = beat}
redis.register_function{function_name = 'xcord_limit_leave', callback = leave}
