#!lua name=xcord

-- append adds one entry. A message id has 12 bits for the sequence; an entry that would not fit is taken back and added
-- in the next millisecond, where Redis then goes on counting. Without a stream the log is closed, and the answer is nil.
local function append(stream, args, first, count)
  local id = redis.call('XADD', stream, 'NOMKSTREAM', '*', unpack(args, first, first + count - 1))
  if not id then return nil end
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  if tonumber(seq) > 4095 then
    redis.call('XDEL', stream, id)
    id = redis.call('XADD', stream, string.format('%.0f-0', tonumber(ms) + 1), unpack(args, first, first + count - 1))
  end
  return id
end

-- before orders two ids as the log does.
local function before(a, b)
  local ams, aseq = string.match(a, '^(%d+)-(%d+)$')
  local bms, bseq = string.match(b, '^(%d+)-(%d+)$')
  if ams ~= bms then return tonumber(ams) < tonumber(bms) end
  return tonumber(aseq) < tonumber(bseq)
end

-- A set that decides is a hash: 'epoch' of the log in which it was loaded, 'kinds', how many there are, per kind 'k <kind>', how many members
-- it has, and per member 'm <kind> <member>'. While it is being loaded it has nothing but a 'ticket'.
-- refusal says why a change of a set is not to be published; nil when it is.
local function refusal(set, epoch, nonce)
  local key, kind, member = set.key, 'k ' .. set.kind, 'm ' .. set.kind .. ' ' .. set.member
  if redis.call('HGET', key, 'epoch') ~= (redis.call('GET', epoch) or '') then
    local ticket = redis.call('HGET', key, 'ticket')
    if not ticket then
      ticket = nonce
      redis.call('DEL', key)
      redis.call('HSET', key, 'ticket', ticket)
      redis.call('EXPIRE', key, 30)
    end
    return '!load ' .. ticket
  elseif set.change == 'add' then
    if redis.call('HEXISTS', key, member) == 1 then return '!same' end
    if redis.call('HEXISTS', key, kind) == 1 then return nil end
    if set.most == 0 then return '!new' end
    if tonumber(redis.call('HGET', key, 'kinds')) >= set.most then return '!full' end
  elseif set.change == 'remove' then
    if redis.call('HEXISTS', key, member) == 0 then return '!same' end
  elseif set.kind ~= '' then
    if redis.call('HEXISTS', key, kind) == 0 then return '!same' end
  elseif redis.call('HGET', key, 'kinds') == '0' then
    return '!same'
  end
end

-- put adds a member that is not there, and drop takes one out that is.
local function put(key, kind, member)
  redis.call('HSET', key, 'm ' .. kind .. ' ' .. member, '')
  if redis.call('HINCRBY', key, 'k ' .. kind, 1) == 1 then redis.call('HINCRBY', key, 'kinds', 1) end
end

local function drop(key, kind, member)
  redis.call('HDEL', key, 'm ' .. kind .. ' ' .. member)
  if redis.call('HINCRBY', key, 'k ' .. kind, -1) == 0 then
    redis.call('HDEL', key, 'k ' .. kind)
    redis.call('HINCRBY', key, 'kinds', -1)
  end
end

-- alter makes a change that was not refused.
local function alter(set)
  if set.change == 'add' then
    put(set.key, set.kind, set.member)
  elseif set.change == 'remove' then
    drop(set.key, set.kind, set.member)
  elseif set.kind ~= '' then
    local head = 'm ' .. set.kind .. ' '
    for _, field in ipairs(redis.call('HKEYS', set.key)) do
      if string.sub(field, 1, #head) == head then drop(set.key, set.kind, string.sub(field, #head + 1)) end
    end
  else
    local epoch = redis.call('HGET', set.key, 'epoch')
    redis.call('DEL', set.key)
    redis.call('HSET', set.key, 'epoch', epoch, 'kinds', 0)
  end
  redis.call('EXPIRE', set.key, set.ttl)
end

-- fill loads a set, unless something has changed since its ticket was given.
-- KEYS: set, epoch
-- ARGV: ticket, ttl in seconds, then kind and member of each, no two the same
-- Reply: 1 loaded, 0 not.
local function fill(keys, args)
  if redis.call('HGET', keys[1], 'ticket') ~= args[1] then return 0 end
  local kinds, members, fields = 0, {}, {}
  for i = 3, #args, 2 do
    members[args[i]] = (members[args[i]] or 0) + 1
    fields[#fields + 1], fields[#fields + 2] = 'm ' .. args[i] .. ' ' .. args[i + 1], ''
  end
  for kind, n in pairs(members) do
    kinds, fields[#fields + 1], fields[#fields + 2] = kinds + 1, 'k ' .. kind, n
  end
  redis.call('DEL', keys[1])
  redis.call('HSET', keys[1], 'epoch', redis.call('GET', keys[2]) or '', 'kinds', kinds)
  for i = 1, #fields, 4000 do redis.call('HSET', keys[1], unpack(fields, i, math.min(i + 3999, #fields))) end
  redis.call('EXPIRE', keys[1], args[2])
  return 1
end

-- choices reads what a publish has behind its fields.
local function choices(keys, args, i)
  local out = {forget = {}}
  while i <= #args do
    local name, key = args[i], keys[tonumber(args[i + 1])]
    if name == 'pause' then
      out.pause, out.pauseTTL, i = key, args[i + 2], i + 3
    elseif name == 'rewrite' then
      out.rewrite, out.asof, i = key, args[i + 2], i + 3
    elseif name == 'forget' then
      out.forget[#out.forget + 1], i = key, i + 2
    elseif name == 'set' then
      out.set = {key = key, change = args[i + 3], kind = args[i + 4], member = args[i + 5], most = tonumber(args[i + 6]), ttl = args[i + 7]}
      out.epoch, i = keys[tonumber(args[i + 2])], i + 8
    else
      error('publish does not know ' .. name)
    end
  end
  return out
end

-- publish is the hot path: nonce, fence, pause, existence, order of rewrites, set, append, in this order and in one step. Of a direct channel,
-- whose hash is the fence, it keeps the latest message.
-- KEYS: stream, fence hash, nonce key, marker keys (first those that must be absent, then those to set), keys of the choices
-- ARGV: fence version or '', nonce ttl in seconds, absent markers, set markers, marker ttl in seconds, number of field arguments, fields...,
-- and then choices, each its name, the number of its key and its arguments:
--   pause key seconds: the actor waits until it is over, and so long after this entry
--   rewrite key place: the entry has a whole message as of place, and nobody has rewritten it since
--   set key epoch change kind member most ttl: a set decides; change is add, remove or clear, and most how many kinds there may be, 0 for no new one
--   forget key: a set that is not true any more
-- Reply: '+id' appended, '=id' the nonce was used before, '!stale' the fence moved, '!pause ms' it is not over, '!gone' a marker stands,
-- '!moved' the message was rewritten since, '!load ticket' the set has to be loaded, '!same' nothing would change, '!new' and '!full' there
-- may be no new kind, '!closed'.
local function publish(keys, args)
  local earlier = redis.call('GET', keys[3])
  if earlier then return '=' .. earlier end
  if args[1] ~= '' and redis.call('HGET', keys[2], 'v') ~= args[1] then return '!stale' end
  local absent, set, fields = tonumber(args[3]), tonumber(args[4]), tonumber(args[6])
  local choice = choices(keys, args, 7 + fields)
  if choice.pause then
    local left = redis.call('PTTL', choice.pause)
    if left > 0 then return '!pause ' .. left end
  end
  for i = 4, 3 + absent do
    if redis.call('EXISTS', keys[i]) == 1 then return '!gone' end
  end
  if choice.rewrite then
    local latest = redis.call('GET', choice.rewrite)
    if latest and before(choice.asof, latest) then return '!moved' end
  end
  local refused = choice.set and refusal(choice.set, choice.epoch, keys[3])
  if refused then return refused end
  local id = append(keys[1], args, 7, fields)
  if not id then return '!closed' end
  if args[10] == 'MESSAGE_SENT' and string.find(keys[2], 'direct:', 1, true) == 1 then redis.call('HSET', keys[2], 'last', id) end
  redis.call('SET', keys[3], id, 'EX', args[2])
  for i = 4 + absent, 3 + absent + set do
    redis.call('SET', keys[i], id, 'EX', args[5])
  end
  if choice.pause then redis.call('SET', choice.pause, id, 'EX', choice.pauseTTL) end
  if choice.rewrite then redis.call('SET', choice.rewrite, id, 'EX', 60) end
  if choice.set then alter(choice.set) end
  if #choice.forget > 0 then redis.call('DEL', unpack(choice.forget)) end
  return '+' .. id
end

-- run does operations on keys: command, key number, argument count, arguments...
local function run(keys, args, first)
  local i = first
  while i <= #args do
    local n = tonumber(args[i + 2])
    redis.call(args[i], keys[tonumber(args[i + 1])], unpack(args, i + 3, i + 2 + n))
    i = i + 3 + n
  end
end

-- apply is the cold path: an aggregate goes from version-1 to version, the read model changes and the entry is appended.
-- KEYS: stream, aggregate hash, keys that the operations touch
-- ARGV: version, number of field arguments, fields..., then operations
-- Reply: '+id' applied, '=id' it had been applied before (id of the latest entry of this aggregate), '!gap version', '!closed'.
local function apply(keys, args)
  local version = tonumber(args[1])
  local have = tonumber(redis.call('HGET', keys[2], 'v') or '0')
  if version <= have then return '=' .. (redis.call('HGET', keys[2], 'at') or '0-0') end
  if version > have + 1 then return '!gap ' .. have end
  local count = tonumber(args[2])
  local id = append(keys[1], args, 3, count)
  if not id then return '!closed' end
  run(keys, args, 3 + count)
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

-- take hands a group's pending entries over once more, and counts that in the pending list. XCLAIM is written to the
-- append-only file with the count; the count of XREADGROUP would be forgotten with the next restart of Redis.
-- KEYS: stream
-- ARGV: group, consumer, most entries, deliveries from which on an entry is handed over alone
-- Reply: deliveries so far, this one included; ids whose entries are not in the stream any more; the entries.
local function take(keys, args)
  local suspect = tonumber(args[4])
  local lost, ids, deliveries = {}, {}, 0
  for _, p in ipairs(redis.call('XPENDING', keys[1], args[1], '-', '+', args[3])) do
    if #redis.call('XRANGE', keys[1], p[1], p[1]) == 0 then
      lost[#lost + 1] = p[1]
    elseif #ids > 0 and p[4] >= suspect then
      break
    else
      ids[#ids + 1], deliveries = p[1], math.max(deliveries, p[4] + 1)
      if p[4] >= suspect then break end
    end
  end
  if #ids == 0 then return {0, lost, {}} end
  return {deliveries, lost, redis.call('XCLAIM', keys[1], args[1], args[2], 0, unpack(ids))}
end

-- bury sets an entry aside under its own id, and lets the group go on, in one step. A stream takes ids in rising order only, and
-- hardly ever is an earlier entry buried after a later one; then the stream is written anew.
-- KEYS: stream, dead letters, their notes
-- ARGV: group, id, id of the dead letter that it waits for or '', fields...
-- Reply: '+' set aside, '=' it had been before, '!free' there is nothing to wait for.
local function bury(keys, args)
  local id, behind, reply = args[2], args[3], '+'
  if #redis.call('XRANGE', keys[2], id, id) > 0 then
    reply = '='
  elseif behind ~= '' and #redis.call('XRANGE', keys[2], behind, behind) == 0 then
    return '!free'
  else
    local last = redis.call('XREVRANGE', keys[2], '+', '-', 'COUNT', 1)[1]
    if last and before(id, last[1]) then
      local all, todo = redis.call('XRANGE', keys[2], '-', '+'), true
      redis.call('DEL', keys[2])
      for _, e in ipairs(all) do
        if todo and before(id, e[1]) then
          redis.call('XADD', keys[2], id, unpack(args, 4))
          todo = false
        end
        redis.call('XADD', keys[2], e[1], unpack(e[2]))
      end
    else
      -- What was taken out may have had a higher id, which the stream remembers.
      local added = redis.pcall('XADD', keys[2], id, unpack(args, 4))
      if type(added) == 'table' and added.err then
        local all = redis.call('XRANGE', keys[2], '-', '+')
        redis.call('DEL', keys[2])
        for _, e in ipairs(all) do redis.call('XADD', keys[2], e[1], unpack(e[2])) end
        redis.call('XADD', keys[2], id, unpack(args, 4))
      end
    end
    redis.call('HINCRBY', keys[3], 'v', 1)
    if behind ~= '' then redis.call('HINCRBY', keys[3], behind, 1) end
  end
  redis.call('XACK', keys[1], args[1], id)
  return reply
end

-- exhume takes dead letters out, all or none: none when others wait for one of them that are not taken out with it.
-- KEYS: dead letters, their notes
-- ARGV: ids
-- Reply: how many there were, or -1.
local function exhume(keys, args)
  local here, waited = {}, {}
  for _, id in ipairs(args) do
    local found = redis.call('XRANGE', keys[1], id, id)[1]
    if found then
      here[#here + 1] = id
      for i = 1, #found[2], 2 do
        if found[2][i] == 'behind' then waited[found[2][i + 1]] = (waited[found[2][i + 1]] or 0) + 1 end
      end
    end
  end
  for _, id in ipairs(here) do
    if tonumber(redis.call('HGET', keys[2], id) or '0') > (waited[id] or 0) then return -1 end
  end
  for _, id in ipairs(here) do redis.call('XDEL', keys[1], id) end
  for id, n in pairs(waited) do
    if redis.call('HINCRBY', keys[2], id, -n) <= 0 then redis.call('HDEL', keys[2], id) end
  end
  if #here > 0 then redis.call('HINCRBY', keys[2], 'v', 1) end
  return #here
end

-- check says how the log stands, and which of some entries are in it.
-- KEYS: stream, epoch
-- ARGV: ids
-- Reply: epoch, last id, first id, entries ever added, entries there, highest id that was deleted by hand; 1 or 0 for each id. Ids are
-- '' where there is none; with a last id of '' the log is closed.
local function check(keys, args)
  local out = {redis.call('GET', keys[2]) or '', '', '', 0, 0, ''}
  if redis.call('EXISTS', keys[1]) == 0 then return out end
  local info = redis.call('XINFO', 'STREAM', keys[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then out[2] = info[i + 1] end
    if info[i] == 'recorded-first-entry-id' then out[3] = info[i + 1] end
    if info[i] == 'entries-added' then out[4] = info[i + 1] end
    if info[i] == 'length' then out[5] = info[i + 1] end
    if info[i] == 'max-deleted-entry-id' then out[6] = info[i + 1] end
  end
  for _, id in ipairs(args) do out[#out + 1] = #redis.call('XRANGE', keys[1], id, id) end
  return out
end

-- close ends an epoch: what there is of the log is put aside, and from then on everything is refused until begin.
-- KEYS: stream, aside, epoch
-- ARGV: the epoch to end
-- Reply: 1 closed, 0 it is another epoch.
local function close(keys, args)
  if (redis.call('GET', keys[3]) or '') ~= args[1] then return 0 end
  if redis.call('EXISTS', keys[2]) == 0 then
    if redis.call('EXISTS', keys[1]) == 1 then redis.call('RENAME', keys[1], keys[2]) end
  else
    redis.call('DEL', keys[1]) -- it came after the log was closed, and has nothing that was accepted
  end
  redis.call('DEL', keys[3])
  return 1
end

-- rebuild changes the read model of a closed log.
-- KEYS: stream, keys that the operations touch
-- ARGV: operations as in apply
-- Reply: 1 done, 0 the log is not closed (any more).
local function rebuild(keys, args)
  if redis.call('EXISTS', keys[1]) == 1 then return 0 end
  run(keys, args, 1)
  return 1
end

-- begin opens a closed log with a new epoch, which begins with an entry of its own; a log that was never used needs none.
-- KEYS: stream, aside, epoch
-- ARGV: new epoch, ms from which on its ids may be or '0' for a log that was never used, fields...
-- Reply: the epoch that there is now, as name@id of the entry that it began with.
local function begin(keys, args)
  if redis.call('EXISTS', keys[1]) == 1 then return redis.call('GET', keys[3]) or '' end
  if redis.call('EXISTS', keys[2]) == 1 then
    redis.call('RENAME', keys[2], keys[1])
  else
    redis.call('XGROUP', 'CREATE', keys[1], 'anchor', '0', 'MKSTREAM')
    redis.call('XGROUP', 'DESTROY', keys[1], 'anchor')
  end
  local began = '0-0'
  if args[2] ~= '0' then
    local ms, info = tonumber(args[2]), redis.call('XINFO', 'STREAM', keys[1])
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then ms = math.max(ms, tonumber(string.match(info[i + 1], '^%d+')) + 1) end
    end
    began = redis.call('XADD', keys[1], string.format('%.0f-0', ms), unpack(args, 3))
  end
  redis.call('SET', keys[3], args[1] .. '@' .. began)
  return redis.call('GET', keys[3])
end

-- Redis refuses a function at its door when the memory is used up, and does not look again until it has ended: so what adds
-- (publish, apply) does all or nothing. What the writer needs to bring the log into Postgres goes on, because only that
-- frees memory again; dead letters are few. So does what makes a log anew: until that is open nobody can trim it.
redis.register_function{function_name = 'xcord_publish', callback = publish}
redis.register_function{function_name = 'xcord_load', callback = fill}
redis.register_function{function_name = 'xcord_apply', callback = apply}
redis.register_function{function_name = 'xcord_look', callback = look, flags = {'no-writes'}}
redis.register_function{function_name = 'xcord_take', callback = take, flags = {'allow-oom'}}
redis.register_function{function_name = 'xcord_bury', callback = bury, flags = {'allow-oom'}}
redis.register_function{function_name = 'xcord_exhume', callback = exhume, flags = {'allow-oom'}}
redis.register_function{function_name = 'xcord_check', callback = check, flags = {'no-writes'}}
redis.register_function{function_name = 'xcord_close', callback = close, flags = {'allow-oom'}}
redis.register_function{function_name = 'xcord_rebuild', callback = rebuild, flags = {'allow-oom'}}
redis.register_function{function_name = 'xcord_begin', callback = begin, flags = {'allow-oom'}}
