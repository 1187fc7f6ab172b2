#!lua name=xcord_resume

-- save writes a checkpoint, unless another gateway has the session by now.
-- KEYS: session
-- ARGV: gateway, life in ms, state, view or '' for the one that is there
-- Reply: ok, taken, or missing when there is no view to keep.
local function save(keys, args)
  local owner = redis.call('HGET', keys[1], 'owner')
  if owner and owner ~= args[1] then return 'taken' end
  if not owner and args[4] == '' then return 'missing' end
  redis.call('HSET', keys[1], 'owner', args[1], 'state', args[3])
  if args[4] ~= '' then redis.call('HSET', keys[1], 'view', args[4]) end
  redis.call('PEXPIRE', keys[1], args[2])
  return 'ok'
end

-- claim hands a session over from one gateway to another.
-- KEYS: session
-- ARGV: owner so far, new owner, life in ms
-- Reply: state and view; nothing when the session has another owner or is gone.
local function claim(keys, args)
  if redis.call('HGET', keys[1], 'owner') ~= args[1] then return {} end
  redis.call('HSET', keys[1], 'owner', args[2])
  redis.call('PEXPIRE', keys[1], args[3])
  return redis.call('HMGET', keys[1], 'state', 'view')
end

-- finish deletes the checkpoint of a session that has ended, unless another gateway has it.
-- KEYS: session
-- ARGV: gateway
local function finish(keys, args)
  if redis.call('HGET', keys[1], 'owner') == args[1] then redis.call('DEL', keys[1]) end
  return 'ok'
end

redis.register_function{function_name = 'xcord_resume_save', callback = save}
redis.register_function{function_name = 'xcord_resume_claim', callback = claim}
redis.register_function{function_name = 'xcord_resume_finish', callback = finish}
