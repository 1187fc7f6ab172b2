#!lua name=xcord_presence

-- details of what is shown, by user. The key stands here because an older binary does not hand it in.
local details = 'presence:{p}:details'

local rank = {offline = 0, idle = 1, online = 2, dnd = 3}

-- show is what others see of a user with these sockets: do not disturb was asked for, so it stands above all, and who is here above
-- who is away; an invisible socket counts for nothing. What the user does is what the highest socket says that says anything, of equal
-- ones the latest. A socket's value is: status, since when it is there, kind of client, activities; an older binary ends earlier.
-- Reply: the status, and the details: the status on desktop, mobile and web ('-' for none), and the activities.
local function show(sockets)
  local best, on, does = 'offline', {}, {rank = 0, since = 0, text = ''}
  for i = 2, #sockets, 2 do
    local status, since, client, text = string.match(sockets[i], '^(%S+) ?(%S*) ?(%S*) ?(.*)$')
    local r = rank[status] or 0
    if r > 0 then
      if client == '' then client = 'web' end
      if r > rank[best] then best = status end
      if r > rank[on[client] or 'offline'] then on[client] = status end
      since = tonumber(since) or 0
      if text ~= '' and (r > does.rank or r == does.rank and since > does.since) then
        does = {rank = r, since = since, text = text}
      end
    end
  end
  return best, table.concat({on.desktop or '-', on.mobile or '-', on.web or '-', does.text}, ' ')
end

-- settle compares what is shown with what was, and tells it when it changed.
-- KEYS 1 sockets of the user, 2 statuses of all, 3 changes
local function settle(keys, user)
  local before, with = redis.call('HGET', keys[2], user) or 'offline', redis.call('HGET', details, user)
  local after, now = show(redis.call('HGETALL', keys[1]))
  if before == after and (after == 'offline' or with == now) then return 0 end
  if after == 'offline' then
    redis.call('HDEL', keys[2], user)
    redis.call('HDEL', details, user)
  else
    redis.call('HSET', keys[2], user, after)
    redis.call('HSET', details, user, now)
  end
  redis.call('XADD', keys[3], 'MAXLEN', '~', 10000, '*', 'user', user, 'status', after)
  return 1
end

-- set sets what one socket says, or removes the socket.
-- KEYS: sockets of the user, statuses, changes, sockets of the gateway
-- ARGV: user, socket (gateway/session), what it says as in show; '' for one that is gone. An older binary has: status, since.
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
