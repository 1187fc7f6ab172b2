#!lua name=xcord_presence

-- show is what others see of a user with these sockets: do not disturb was asked for, so it stands above all; an invisible
-- socket counts for nothing.
local function show(statuses)
  local best = 'offline'
  local rank = {offline = 0, idle = 1, online = 2, dnd = 3}
  for _, value in ipairs(statuses) do
    local s = string.match(value, '^%S+')
    if rank[s] and rank[s] > rank[best] then best = s end
  end
  return best
end

-- settle compares what is shown with what was, and tells it when it changed.
-- KEYS 1 sockets of the user, 2 statuses of all, 3 changes
local function settle(keys, user)
  local before = redis.call('HGET', keys[2], user) or 'offline'
  local after = show(redis.call('HVALS', keys[1]))
  if before == after then return 0 end
  if after == 'offline' then
    redis.call('HDEL', keys[2], user)
  else
    redis.call('HSET', keys[2], user, after)
  end
  redis.call('XADD', keys[3], 'MAXLEN', '~', 10000, '*', 'user', user, 'status', after)
  return 1
end

-- set sets the status of one socket, or removes the socket.
-- KEYS: sockets of the user, statuses, changes, sockets of the gateway
-- ARGV: user, socket (gateway/session), status or '', since when it is there (ms; an older binary does not say)
-- Reply: 1 when what others see has changed.
local function set(keys, args)
  local member = args[1] .. ' ' .. args[2]
  if args[3] == '' then
    redis.call('HDEL', keys[1], args[2])
    redis.call('SREM', keys[4], member)
  else
    redis.call('HSET', keys[1], args[2], args[4] and args[3] .. ' ' .. args[4] or args[3])
    redis.call('SADD', keys[4], member)
  end
  return settle(keys, args[1])
end

-- dead says whether a gateway's lease has run out.
local function dead(leases, gateway, now)
  local till = redis.call('ZSCORE', leases, gateway)
  return not till or tonumber(till) <= tonumber(now)
end

-- sweep removes a socket of a gateway unless that turns out to live.
-- KEYS: sockets of the user, statuses, changes, sockets of the gateway, leases
-- ARGV: user, socket (gateway/session), gateway, now (ms)
-- Reply: 1 when what others see has changed, -1 when the gateway lives.
local function sweep(keys, args)
  if not dead(keys[5], args[3], args[4]) then return -1 end
  return set(keys, {args[1], args[2], ''})
end

-- lease says that a gateway lives until a time.
-- KEYS: leases
-- ARGV: gateway, until (ms), now (ms)
-- Reply: 1 when it was known to live, 0 when it is new or may have been given up.
local function lease(keys, args)
  local gone = dead(keys[1], args[1], args[3])
  redis.call('ZADD', keys[1], args[2], args[1])
  return gone and 0 or 1
end

-- bury gives up a gateway whose lease has run out and that has no socket left.
-- KEYS: leases, sockets of the gateway
-- ARGV: gateway, now (ms)
local function bury(keys, args)
  if dead(keys[1], args[1], args[2]) and redis.call('SCARD', keys[2]) == 0 then
    return redis.call('ZREM', keys[1], args[1])
  end
  return 0
end

redis.register_function{function_name = 'xcord_presence_set', callback = set}
redis.register_function{function_name = 'xcord_presence_sweep', callback = sweep}
redis.register_function{function_name = 'xcord_presence_lease', callback = lease}
redis.register_function{function_name = 'xcord_presence_bury', callback = bury}
