#!lua name=xcord

-- append adds one entry. A message id has 12 bits for the sequence; an entry that would not fit is taken back and added
-- in the next millisecond, where Redis then goes on counting.
local function append(stream, args, first, count)
  local id = redis.call('XADD', stream, '*', unpack(args, first, first + count - 1))
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  if tonumber(seq) > 4095 then
    redis.call('XDEL', stream, id)
    id = redis.call('XADD', stream, string.format('%.0f-0', tonumber(ms) + 1), unpack(args, first, first + count - 1))
  end
  return id
end

-- publish is the hot path: nonce, fence, existence, append, in this order and in one step.
-- KEYS: stream, fence hash, nonce key, marker keys (first those that must be absent, then those to set)
-- ARGV: fence version or '', nonce ttl in seconds, absent markers, set markers, marker ttl in seconds, fields...
-- Reply: '+id' appended, '=id' the nonce was used before, '!stale' the fence moved, '!gone' a marker stands.
local function publish(keys, args)
  local before = redis.call('GET', keys[3])
  if before then return '=' .. before end
  if args[1] ~= '' and redis.call('HGET', keys[2], 'v') ~= args[1] then return '!stale' end
  local absent, set = tonumber(args[3]), tonumber(args[4])
  for i = 4, 3 + absent do
    if redis.call('EXISTS', keys[i]) == 1 then return '!gone' end
  end
  local id = append(keys[1], args, 6, #args - 5)
  redis.call('SET', keys[3], id, 'EX', args[2])
  for i = 4 + absent, 3 + absent + set do
    redis.call('SET', keys[i], id, 'EX', args[5])
  end
  return '+' .. id
end

-- apply is the cold path: an aggregate goes from version-1 to version, the read model changes and the entry is appended.
-- KEYS: stream, aggregate hash, keys that the operations touch
-- ARGV: version, number of field arguments, fields..., then operations: command, key number, argument count, arguments...
-- Reply: '+id' applied, '=id' it had been applied before (id of the latest entry of this aggregate), '!gap version'.
local function apply(keys, args)
  local version = tonumber(args[1])
  local have = tonumber(redis.call('HGET', keys[2], 'v') or '0')
  if version <= have then return '=' .. (redis.call('HGET', keys[2], 'at') or '0-0') end
  if version > have + 1 then return '!gap ' .. have end
  local count = tonumber(args[2])
  local id = append(keys[1], args, 3, count)
  local i = 3 + count
  while i <= #args do
    local n = tonumber(args[i + 2])
    redis.call(args[i], keys[tonumber(args[i + 1])], unpack(args, i + 3, i + 2 + n))
    i = i + 3 + n
  end
  redis.call('HSET', keys[2], 'v', args[1], 'at', id)
  return '+' .. id
end

-- look reads several keys of the read model and the log's last id at one moment.
-- KEYS: stream, keys to read
-- ARGV: commands as in apply, read-only ones
-- Reply: the last id, then one reply for each command.
local function look(keys, args)
  local info = redis.call('XINFO', 'STREAM', keys[1])
  local out = {}
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then out[1] = info[i + 1] end
  end
  local i = 1
  while i <= #args do
    local n = tonumber(args[i + 2])
    out[#out + 1] = redis.call(args[i], keys[tonumber(args[i + 1])], unpack(args, i + 3, i + 2 + n))
    i = i + 3 + n
  end
  return out
end

redis.register_function{function_name = 'xcord_publish', callback = publish}
redis.register_function{function_name = 'xcord_apply', callback = apply}
redis.register_function{function_name = 'xcord_look', callback = look, flags = {'no-writes'}}
