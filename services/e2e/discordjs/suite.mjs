// discord.js as it is, against one server: each call is held against the endpoint that it is for, and each event is waited for. What it is
// given comes as JSON in the first argument; what it has found goes out as lines of JSON. ../discordjs_test.go starts it and reads them.
import { Client, Events, GatewayIntentBits, OverwriteType, Partials, PermissionFlagsBits, RESTEvents } from 'discord.js'

const given = JSON.parse(process.argv[2])
const say = line => console.log(JSON.stringify(line))
const patience = 30_000

const client = new Client({
  intents: Object.values(GatewayIntentBits).filter(bit => typeof bit === 'number'),
  partials: [Partials.Channel, Partials.Message, Partials.Reaction, Partials.User, Partials.GuildMember],
  rest: { api: given.api, version: '10', retries: 0 }
})

// What is asked for, as METHOD /path without the base.
let asked = []
client.rest.on(RESTEvents.Response, request => asked.push(`${request.method} ${new URL(request.url ?? given.api + request.path, given.api).pathname.replace(/^\/api(\/v\d+)?/, '').replace('%40me', '@me')}`))

// Which events came, by the library's names, and which dispatches of the gateway the library has an event for.
const heard = new Map()
for (const event of Object.values(Events)) client.on(event, (...args) => heard.set(event, args))
const eventOf = {
  GUILD_CREATE: 'guildCreate', GUILD_UPDATE: 'guildUpdate', GUILD_DELETE: 'guildDelete', GUILD_ROLE_CREATE: 'roleCreate', GUILD_ROLE_UPDATE: 'roleUpdate',
  GUILD_ROLE_DELETE: 'roleDelete', GUILD_MEMBER_ADD: 'guildMemberAdd', GUILD_MEMBER_UPDATE: 'guildMemberUpdate', GUILD_MEMBER_REMOVE: 'guildMemberRemove',
  GUILD_MEMBERS_CHUNK: 'guildMembersChunk', GUILD_BAN_ADD: 'guildBanAdd', GUILD_BAN_REMOVE: 'guildBanRemove', GUILD_AUDIT_LOG_ENTRY_CREATE: 'guildAuditLogEntryCreate',
  CHANNEL_CREATE: 'channelCreate', CHANNEL_UPDATE: 'channelUpdate', CHANNEL_DELETE: 'channelDelete', CHANNEL_PINS_UPDATE: 'channelPinsUpdate',
  INVITE_CREATE: 'inviteCreate', INVITE_DELETE: 'inviteDelete', MESSAGE_CREATE: 'messageCreate', MESSAGE_UPDATE: 'messageUpdate', MESSAGE_DELETE: 'messageDelete',
  MESSAGE_DELETE_BULK: 'messageDeleteBulk', MESSAGE_REACTION_ADD: 'messageReactionAdd', MESSAGE_REACTION_REMOVE: 'messageReactionRemove',
  MESSAGE_REACTION_REMOVE_ALL: 'messageReactionRemoveAll', MESSAGE_REACTION_REMOVE_EMOJI: 'messageReactionRemoveEmoji', TYPING_START: 'typingStart',
  PRESENCE_UPDATE: 'presenceUpdate', USER_UPDATE: 'userUpdate', WEBHOOKS_UPDATE: 'webhooksUpdate', READY: 'clientReady'
}
// Dispatches that no event of the library is for: it answers to them itself, or they are XCord's own.
const silent = ['RESUMED', 'RATE_LIMITED', 'MESSAGE_ACK', 'MESSAGE_READ', 'USER_GUILD_SETTINGS_UPDATE', 'CHANNEL_RECIPIENT_ADD', 'CHANNEL_RECIPIENT_REMOVE']

const check = (ok, got) => { if (!ok) throw new Error(`got ${JSON.stringify(got, (_, v) => typeof v === 'bigint' ? `${v}` : v)?.slice(0, 400)}`) }

// Each call: what it is, which endpoint it is for ("" for none), and whether what comes of it is right. {after} is an endpoint without which the
// server does not have what is asked for.
const s = {} // what calls hand on
const calls = [
  ['Client.fetchVoiceRegions', 'GET /voice/regions', async () => { const r = await client.fetchVoiceRegions(); check(r.size === 1, r) }],
  ['ClientApplication.fetch', 'GET /applications/@me', async () => { const a = await client.application.fetch(); check(a.id === client.user.id && a.owner.id === given.owner, a) }],
  ['ClientUser.edit', 'PATCH /users/@me', async () => { const u = await client.user.edit({ username: 'js1' }); check(u.username === 'js1', u) }],
  ['ClientUser.setUsername', 'PATCH /users/@me', async () => { const u = await client.user.setUsername('js2'); check(u.username === 'js2', u) }],
  ['ClientUser.setPresence', '', async () => { client.user.setPresence({ status: 'idle', activities: [{ name: 'chess' }] }) }],
  ['ClientUser.setStatus', '', async () => { client.user.setStatus('dnd') }],
  ['ClientUser.setActivity', '', async () => { client.user.setActivity('chess') }],
  ['ClientUser.setAFK', '', async () => { client.user.setAFK(false) }],
  ['UserManager.fetch', 'GET /users/{}', async () => { const u = await client.users.fetch(given.owner, { force: true }); check(u.id === given.owner && !u.bot, u) }],
  ['User.fetch', 'GET /users/{}', async () => { const u = await client.users.cache.get(given.owner).fetch(true); check(u.id === given.owner, u) }],
  ['GuildManager.fetch', 'GET /guilds/{}', async () => { s.guild = await client.guilds.fetch({ guild: given.guild, force: true }); check(s.guild.approximateMemberCount > 5, s.guild) }],
  ['Guild.fetch', 'GET /guilds/{}', async () => { const g = await s.guild.fetch(); check(g.id === given.guild, g) }],
  ['Guild.fetchOwner', 'GET /guilds/{}/members/{}', async () => { const o = await s.guild.fetchOwner({ force: true }); check(o.id === given.owner, o) }],
  ['Guild.edit', 'PATCH /guilds/{}', async () => { const g = await s.guild.edit({ description: 'by js', afkTimeout: 60 }); check(g.description === 'by js' && g.afkTimeout === 60, g) }],
  ['Guild.setName', 'PATCH /guilds/{}', async () => { const g = await s.guild.setName('named by js'); check(g.name === 'named by js', g) }],
  ['Guild.setVerificationLevel', 'PATCH /guilds/{}', async () => { const g = await s.guild.setVerificationLevel(1); check(g.verificationLevel === 1, g) }],
  ['Guild.setExplicitContentFilter', 'PATCH /guilds/{}', async () => { const g = await s.guild.setExplicitContentFilter(1); check(g.explicitContentFilter === 1, g) }],
  ['Guild.setDefaultMessageNotifications', 'PATCH /guilds/{}', async () => { const g = await s.guild.setDefaultMessageNotifications(1); check(g.defaultMessageNotifications === 1, g) }],
  ['Guild.setAFKTimeout', 'PATCH /guilds/{}', async () => { const g = await s.guild.setAFKTimeout(300); check(g.afkTimeout === 300, g) }],
  ['Guild.setSystemChannel', 'PATCH /guilds/{}', async () => { const g = await s.guild.setSystemChannel(given.channel); check(g.systemChannelId === given.channel, g) }],
  ['Guild.setSystemChannelFlags', 'PATCH /guilds/{}', async () => { const g = await s.guild.setSystemChannelFlags(1); check(g.systemChannelFlags.bitfield === 1, g) }],
  ['Guild.setPreferredLocale', 'PATCH /guilds/{}', async () => { const g = await s.guild.setPreferredLocale('de'); check(g.preferredLocale === 'de', g) }],
  ['Guild.setIcon', 'PATCH /guilds/{}', async () => { const g = await s.guild.setIcon(Buffer.from(given.png, 'base64')); check(g.icon, g) }, 'GET /icons/{}/{}'],
  ['GuildChannelManager.create', 'POST /guilds/{}/channels', async () => {
    s.made = await s.guild.channels.create({ name: 'by-js', topic: 't', nsfw: true, rateLimitPerUser: 3, permissionOverwrites: [{ id: s.guild.id, deny: [PermissionFlagsBits.SendMessages] }] })
    check(s.made.topic === 't' && s.made.nsfw && s.made.rateLimitPerUser === 3 && s.made.permissionOverwrites.cache.size === 1, s.made)
  }],
  ['GuildChannelManager.fetch', 'GET /guilds/{}/channels', async () => { const c = await s.guild.channels.fetch(); check(c.size >= 3, c) }],
  ['ChannelManager.fetch', 'GET /channels/{}', async () => { s.channel = await client.channels.fetch(given.channel, { force: true }); check(s.channel.guild.id === given.guild, s.channel) }],
  ['GuildChannelManager.edit', 'PATCH /channels/{}', async () => { const c = await s.guild.channels.edit(s.made, { name: 'edited' }); check(c.name === 'edited', c) }],
  ['TextChannel.edit', 'PATCH /channels/{}', async () => { const c = await s.made.edit({ topic: 'edited' }); check(c.topic === 'edited', c) }],
  ['TextChannel.setName', 'PATCH /channels/{}', async () => { const c = await s.made.setName('named'); check(c.name === 'named', c) }],
  ['TextChannel.setTopic', 'PATCH /channels/{}', async () => { const c = await s.made.setTopic('topic'); check(c.topic === 'topic', c) }],
  ['TextChannel.setNSFW', 'PATCH /channels/{}', async () => { const c = await s.made.setNSFW(false); check(c.nsfw === false, c) }],
  ['TextChannel.setRateLimitPerUser', 'PATCH /channels/{}', async () => { const c = await s.made.setRateLimitPerUser(0); check(c.rateLimitPerUser === 0, c) }],
  ['TextChannel.setParent', 'PATCH /channels/{}', async () => {
    s.category = await s.guild.channels.create({ name: 'category', type: 4 })
    const c = await s.made.setParent(s.category)
    check(c.parentId === s.category.id, c)
  }],
  ['TextChannel.lockPermissions', 'PATCH /channels/{}', async () => { const c = await s.made.lockPermissions(); check(c.permissionOverwrites.cache.size === 0, c) }],
  ['TextChannel.setPosition', 'PATCH /guilds/{}/channels', async () => { await s.made.setPosition(1) }],
  ['GuildChannelManager.setPosition', 'PATCH /guilds/{}/channels', async () => { await s.guild.channels.setPosition(s.made, 0) }],
  ['GuildChannelManager.setPositions', 'PATCH /guilds/{}/channels', async () => { await s.guild.channels.setPositions([{ channel: s.made, position: 0 }]) }],
  ['TextChannel.clone', 'POST /guilds/{}/channels', async () => { const c = await s.made.clone(); check(c.name === s.made.name, c); s.clone = c }],
  ['TextChannel.fetch', 'GET /channels/{}', async () => { const c = await s.made.fetch(true); check(c.id === s.made.id, c) }],
  ['PermissionOverwriteManager.create', 'PUT /channels/{}/permissions/{}', async () => {
    await s.made.permissionOverwrites.create(given.friend, { SendMessages: true, AttachFiles: false }, { type: OverwriteType.Member })
  }],
  ['PermissionOverwriteManager.edit', 'PUT /channels/{}/permissions/{}', async () => { await s.made.permissionOverwrites.edit(given.friend, { EmbedLinks: false }) }],
  ['PermissionOverwriteManager.upsert', 'PUT /channels/{}/permissions/{}', async () => { await s.made.permissionOverwrites.upsert(given.friend, { Speak: false }, { type: OverwriteType.Member }) }],
  ['PermissionOverwriteManager.set', 'PATCH /channels/{}', async () => { await s.made.permissionOverwrites.set([{ id: given.friend, deny: [PermissionFlagsBits.Speak], type: OverwriteType.Member }]) }],
  ['PermissionOverwriteManager.delete', 'DELETE /channels/{}/permissions/{}', async () => { await s.made.permissionOverwrites.delete(given.friend) }],
  ['TextChannel.createInvite', 'POST /channels/{}/invites', async () => { s.invite = await s.channel.createInvite({ maxAge: 600, maxUses: 2, unique: true }); check(s.invite.maxUses === 2, s.invite) }],
  ['GuildInviteManager.create', 'POST /channels/{}/invites', async () => { s.second = await s.guild.invites.create(s.channel, { unique: true }); check(s.second.code !== s.invite.code, s.second) }],
  ['TextChannel.fetchInvites', 'GET /channels/{}/invites', async () => { const i = await s.channel.fetchInvites(); check(i.has(s.invite.code), i) }],
  ['GuildInviteManager.fetch', 'GET /guilds/{}/invites', async () => { const i = await s.guild.invites.fetch(); check(i.has(s.invite.code), i) }],
  ['Client.fetchInvite', 'GET /invites/{}', async () => { const i = await client.fetchInvite(s.invite.code); check(i.guild.id === given.guild && i.memberCount > 5, i) }],
  ['Invite.delete', 'DELETE /invites/{}', async () => { await s.invite.delete() }],
  ['GuildInviteManager.delete', 'DELETE /invites/{}', async () => { await s.guild.invites.delete(s.second.code) }],
  ['RoleManager.create', 'POST /guilds/{}/roles', async () => {
    s.role = await s.guild.roles.create({ name: 'by js', colors: { primaryColor: 0xff0000 }, hoist: true, mentionable: true, permissions: [PermissionFlagsBits.SendMessages] })
    check(s.role.color === 0xff0000 && s.role.hoist && s.role.permissions.bitfield === PermissionFlagsBits.SendMessages, s.role)
  }],
  ['RoleManager.fetch', 'GET /guilds/{}/roles', async () => { const r = await s.guild.roles.fetch(undefined, { force: true }); check(r.size > 3, r); check((await s.guild.roles.fetch(s.role.id, { force: true })).id === s.role.id, r) }],
  ['RoleManager.edit', 'PATCH /guilds/{}/roles/{}', async () => { const r = await s.guild.roles.edit(s.role, { name: 'edited' }); check(r.name === 'edited', r) }],
  ['Role.edit', 'PATCH /guilds/{}/roles/{}', async () => { const r = await s.role.edit({ mentionable: false }); check(!r.mentionable, r) }],
  ['Role.setName', 'PATCH /guilds/{}/roles/{}', async () => { const r = await s.role.setName('named'); check(r.name === 'named', r) }],
  ['Role.setColors', 'PATCH /guilds/{}/roles/{}', async () => { const r = await s.role.setColors({ primaryColor: 0x00ff00 }); check(r.colors.primaryColor === 0x00ff00, r) }],
  ['Role.setHoist', 'PATCH /guilds/{}/roles/{}', async () => { const r = await s.role.setHoist(false); check(!r.hoist, r) }],
  ['Role.setPermissions', 'PATCH /guilds/{}/roles/{}', async () => { const r = await s.role.setPermissions([PermissionFlagsBits.AddReactions]); check(r.permissions.bitfield === PermissionFlagsBits.AddReactions, r) }],
  ['Role.setMentionable', 'PATCH /guilds/{}/roles/{}', async () => { const r = await s.role.setMentionable(true); check(r.mentionable, r) }],
  ['Role.setUnicodeEmoji', 'PATCH /guilds/{}/roles/{}', async () => { const r = await s.role.setUnicodeEmoji('🦊'); check(r.unicodeEmoji === '🦊', r) }],
  ['Role.setPosition', 'PATCH /guilds/{}/roles', async () => { await s.role.setPosition(1) }],
  ['RoleManager.setPosition', 'PATCH /guilds/{}/roles', async () => { await s.guild.roles.setPosition(s.role, 1) }],
  ['RoleManager.setPositions', 'PATCH /guilds/{}/roles', async () => { await s.guild.roles.setPositions([{ role: s.role, position: 1 }]) }],
  ['GuildMemberManager.fetch', 'GET /guilds/{}/members/{}', async () => { s.friend = await s.guild.members.fetch({ user: given.friend, force: true }); check(s.friend.user.bot && s.friend.joinedTimestamp > 0, s.friend) }],
  ['GuildMemberManager.fetch all', '', async () => { const m = await s.guild.members.fetch(); check(m.size > 5, m.size) }], // by the gateway
  ['GuildMemberManager.fetchMe', 'GET /guilds/{}/members/{}', async () => { const m = await s.guild.members.fetchMe({ force: true }); check(m.id === client.user.id, m) }],
  ['GuildMemberManager.list', 'GET /guilds/{}/members', async () => { const m = await s.guild.members.list({ limit: 1000 }); check(m.size > 5, m.size) }],
  ['GuildMemberManager.search', 'GET /guilds/{}/members/search', async () => { const m = await s.guild.members.search({ query: 'moder' }); check(m.size === 1, m) }],
  ['GuildMember.fetch', 'GET /guilds/{}/members/{}', async () => { const m = await s.friend.fetch(true); check(m.id === given.friend, m) }],
  ['GuildMemberManager.edit', 'PATCH /guilds/{}/members/{}', async () => { const m = await s.guild.members.edit(given.friend, { nick: 'one' }); check(m.nickname === 'one', m) }],
  ['GuildMemberManager.editMe', 'PATCH /guilds/{}/members/@me', async () => { const m = await s.guild.members.editMe({ nick: 'me' }); check(m.nickname === 'me', m) }],
  ['GuildMember.edit', 'PATCH /guilds/{}/members/{}', async () => { const m = await s.friend.edit({ nick: 'two' }); check(m.nickname === 'two', m) }],
  ['GuildMember.setNickname', 'PATCH /guilds/{}/members/{}', async () => { const m = await s.friend.setNickname('three'); check(m.nickname === 'three', m) }],
  ['GuildMember.timeout', 'PATCH /guilds/{}/members/{}', async () => { const m = await s.friend.timeout(60_000); check(m.isCommunicationDisabled(), m) }, 'GET /guilds/{}/audit-logs'],
  ['GuildMember.disableCommunicationUntil', 'PATCH /guilds/{}/members/{}', async () => { const m = await s.friend.disableCommunicationUntil(null); check(!m.isCommunicationDisabled(), m) }, 'GET /guilds/{}/audit-logs'],
  ['GuildMemberManager.addRole', 'PUT /guilds/{}/members/{}/roles/{}', async () => { await s.guild.members.addRole({ user: given.friend, role: s.role.id }) }],
  ['GuildMemberManager.removeRole', 'DELETE /guilds/{}/members/{}/roles/{}', async () => { await s.guild.members.removeRole({ user: given.friend, role: s.role.id }) }],
  ['GuildMemberRoleManager.add', 'PUT /guilds/{}/members/{}/roles/{}', async () => { const m = await s.friend.roles.add(s.role); check(m.roles.cache.has(s.role.id), m) }],
  ['GuildMemberRoleManager.remove', 'DELETE /guilds/{}/members/{}/roles/{}', async () => { const m = await s.friend.roles.remove(s.role); check(!m.roles.cache.has(s.role.id), m) }],
  ['GuildMemberRoleManager.set', 'PATCH /guilds/{}/members/{}', async () => { await s.friend.roles.set([s.role]) }],
  ['Role.delete', 'DELETE /guilds/{}/roles/{}', async () => { await s.role.delete() }],
  ['RoleManager.delete', 'DELETE /guilds/{}/roles/{}', async () => { await s.guild.roles.delete(await s.guild.roles.create({ name: 'gone' })) }],
  ['TextChannel.send', 'POST /channels/{}/messages', async () => {
    s.message = await s.channel.send({ content: `<@${given.friend}>`, embeds: [{ title: 't', fields: [{ name: 'n', value: 'v' }] }], allowedMentions: { parse: ['users'] }, nonce: 'n1', enforceNonce: true })
    check(s.message.embeds[0].fields[0].value === 'v' && s.message.mentions.users.has(given.friend) && s.message.author.id === client.user.id && s.message.nonce === 'n1', s.message)
  }],
  ['TextChannel.send files', 'POST /channels/{}/messages', async () => {
    const m = await s.channel.send({ files: [{ attachment: Buffer.from('the file'), name: 'a.txt', description: 'd' }] })
    check(m.attachments.size === 1 && m.attachments.first().size === 8 && m.attachments.first().description === 'd', m)
  }, 'GET /attachments/{}/{}/{}'],
  ['Message.reply', 'POST /channels/{}/messages', async () => { s.reply = await s.message.reply('reply'); check(s.reply.reference.messageId === s.message.id && s.reply.type === 19, s.reply) }],
  ['Message.fetchReference', 'GET /channels/{}/messages/{}', async () => { s.channel.messages.cache.clear(); const m = await s.reply.fetchReference(); check(m.id === s.message.id, m) }],
  ['Message.fetch', 'GET /channels/{}/messages/{}', async () => { const m = await s.reply.fetch(true); check(m.content === 'reply', m) }],
  ['MessageManager.fetch', 'GET /channels/{}/messages', async () => { const m = await s.channel.messages.fetch({ limit: 2 }); check(m.first().id === s.reply.id && m.size === 2, m) }],
  ['MessageManager.edit', 'PATCH /channels/{}/messages/{}', async () => { const m = await s.channel.messages.edit(s.message, 'one'); check(m.content === 'one', m) }],
  ['Message.edit', 'PATCH /channels/{}/messages/{}', async () => { s.message = await s.message.edit({ content: 'two', embeds: [{ title: 'e' }] }); check(s.message.editedTimestamp > 0 && s.message.embeds.length === 1, s.message) }],
  ['Message.suppressEmbeds', 'PATCH /channels/{}/messages/{}', async () => { const m = await s.message.suppressEmbeds(true); check(m.flags.has(1 << 2), m) }],
  ['Message.react', 'PUT /channels/{}/messages/{}/reactions/{}/@me', async () => { s.reaction = await s.message.react('🦊'); check(s.reaction.emoji.name === '🦊', s.reaction) }],
  ['MessageManager.react', 'PUT /channels/{}/messages/{}/reactions/{}/@me', async () => { await s.channel.messages.react(s.message, '🐻') }],
  ['MessageReaction.react', 'PUT /channels/{}/messages/{}/reactions/{}/@me', async () => { await s.reaction.react() }],
  ['ReactionUserManager.fetch', 'GET /channels/{}/messages/{}/reactions/{}', async () => { const u = await s.reaction.users.fetch(); check(u.has(client.user.id), u) }],
  ['MessageReaction.fetch', 'GET /channels/{}/messages/{}', async () => { const r = await s.reaction.fetch(); check(r.count === 1 && r.me, r) }, 'PUT /channels/{}/messages/{}/reactions/{}/@me'],
  ['ReactionUserManager.remove', 'DELETE /channels/{}/messages/{}/reactions/{}/@me', async () => { await s.reaction.users.remove() }],
  ['MessageReaction.remove', 'DELETE /channels/{}/messages/{}/reactions/{}', async () => { await (await s.message.react('🦊')).remove() }],
  ['ReactionManager.removeAll', 'DELETE /channels/{}/messages/{}/reactions', async () => { await s.message.react('🦊'); await s.message.reactions.removeAll() }],
  ['Message.pin', 'PUT /channels/{}/messages/pins/{}', async () => { await s.message.pin() }],
  ['MessageManager.fetchPins', 'GET /channels/{}/messages/pins', async () => { const p = await s.channel.messages.fetchPins(); check(p.items.length === 1 && p.items[0].message.id === s.message.id && !p.hasMore, p) }],
  ['Message.unpin', 'DELETE /channels/{}/messages/pins/{}', async () => { await s.message.unpin() }],
  ['MessageManager.pin', 'PUT /channels/{}/messages/pins/{}', async () => { await s.channel.messages.pin(s.reply) }],
  ['MessageManager.unpin', 'DELETE /channels/{}/messages/pins/{}', async () => { await s.channel.messages.unpin(s.reply) }],
  ['TextChannel.sendTyping', 'POST /channels/{}/typing', async () => { await s.channel.sendTyping() }],
  ['TextChannel.bulkDelete', 'POST /channels/{}/messages/bulk-delete', async () => {
    const two = [await s.channel.send('one'), await s.channel.send('two')]
    const gone = await s.channel.bulkDelete(two)
    check(gone.size === 2, gone)
  }],
  ['Message.delete', 'DELETE /channels/{}/messages/{}', async () => { await s.message.delete() }],
  ['MessageManager.delete', 'DELETE /channels/{}/messages/{}', async () => { await s.channel.messages.delete(s.reply) }],
  ['UserManager.createDM', 'POST /users/@me/channels', async () => { s.dm = await client.users.createDM(given.owner); check(s.dm.isDMBased() && s.dm.recipientId === given.owner, s.dm) }],
  ['User.createDM', 'POST /users/@me/channels', async () => { const c = await client.users.cache.get(given.owner).createDM(true); check(c.id === s.dm.id, c) }],
  ['DMChannel.send', 'POST /channels/{}/messages', async () => { const m = await s.dm.send('in private'); check(m.channelId === s.dm.id && !m.guildId, m) }, 'POST /users/@me/channels'],
  ['User.send', 'POST /channels/{}/messages', async () => { await client.users.cache.get(given.owner).send('more') }, 'POST /users/@me/channels'],
  ['UserManager.send', 'POST /channels/{}/messages', async () => { await client.users.send(given.owner, 'more') }, 'POST /users/@me/channels'],
  ['DMChannel.fetch', 'POST /users/@me/channels', async () => { await s.dm.fetch(true) }],
  ['DMChannel.sendTyping', 'POST /channels/{}/typing', async () => { await s.dm.sendTyping() }, 'POST /users/@me/channels'],
  ['User.deleteDM', 'DELETE /channels/{}', async () => { await client.users.cache.get(given.owner).deleteDM() }, 'POST /users/@me/channels'],
  ['GuildMemberManager.kick', 'DELETE /guilds/{}/members/{}', async () => { await s.guild.members.kick(given.guests[0], 'for the log') }],
  ['GuildMember.kick', 'DELETE /guilds/{}/members/{}', async () => { await (await s.guild.members.fetch(given.guests[1])).kick() }],
  ['GuildMember.ban', 'PUT /guilds/{}/bans/{}', async () => { await (await s.guild.members.fetch(given.guests[2])).ban({ reason: 'why not' }) }],
  ['GuildMemberManager.ban', 'PUT /guilds/{}/bans/{}', async () => { await s.guild.members.ban(given.guests[3], { deleteMessageSeconds: 0 }) }],
  ['GuildBanManager.create', 'PUT /guilds/{}/bans/{}', async () => { await s.guild.bans.create(given.guests[4], { reason: 'r' }) }],
  ['GuildBanManager.fetch', 'GET /guilds/{}/bans', async () => { const b = await s.guild.bans.fetch(); check(b.size >= 3, b); check((await s.guild.bans.fetch({ user: given.guests[2], force: true })).reason === 'why not', b) }],
  ['GuildMemberManager.unban', 'DELETE /guilds/{}/bans/{}', async () => { await s.guild.members.unban(given.guests[3]) }],
  ['GuildBanManager.remove', 'DELETE /guilds/{}/bans/{}', async () => { await s.guild.bans.remove(given.guests[4]) }],
  ['Guild.fetchAuditLogs', 'GET /guilds/{}/audit-logs', async () => { const l = await s.guild.fetchAuditLogs({ type: 20 }); check(l.entries.some(e => e.reason === 'for the log' && e.targetId === given.guests[0]), l.entries) }],
  ['VoiceStateManager.fetch', 'GET /guilds/{}/voice-states/{}', async () => { const e = await s.guild.voiceStates.fetch(given.friend, { force: true }).catch(error => error); check(e.code === 10065, e) }], // nobody is in voice
  ['GuildEmojiManager.fetch', 'GET /guilds/{}/emojis', async () => { const e = await s.guild.emojis.fetch(); check(e.size === 0, e) }],
  ['GuildScheduledEventManager.fetch', 'GET /guilds/{}/scheduled-events', async () => { const e = await s.guild.scheduledEvents.fetch(); check(e.size === 0, e) }],
  ['GuildChannelManager.fetchActiveThreads', 'GET /guilds/{}/threads/active', async () => { const t = await s.guild.channels.fetchActiveThreads(); check(t.threads.size === 0, t) }],
  ['TextChannel.createWebhook', 'POST /channels/{}/webhooks', async () => { s.hook = await s.channel.createWebhook({ name: 'hook' }); check(s.hook.token, s.hook) }],
  ['GuildChannelManager.createWebhook', 'POST /channels/{}/webhooks', async () => { s.spare = await s.guild.channels.createWebhook({ channel: s.channel, name: 'spare' }) }],
  ['TextChannel.fetchWebhooks', 'GET /channels/{}/webhooks', async () => { const w = await s.channel.fetchWebhooks(); check(w.get(s.hook.id).token === s.hook.token && w.has(s.spare.id), w) }],
  ['GuildChannelManager.fetchWebhooks', 'GET /channels/{}/webhooks', async () => { const w = await s.guild.channels.fetchWebhooks(s.channel); check(w.has(s.hook.id) && w.has(s.spare.id), w) }],
  ['Guild.fetchWebhooks', 'GET /guilds/{}/webhooks', async () => { const w = await s.guild.fetchWebhooks(); check(w.has(s.hook.id) && w.get(s.hook.id).owner.id === client.user.id, w) }],
  ['Client.fetchWebhook', 'GET /webhooks/{}', async () => { const w = await client.fetchWebhook(s.hook.id); check(w.channelId === given.channel, w) }],
  ['Webhook.edit', 'PATCH /webhooks/{}', async () => { const w = await s.hook.edit({ name: 'renamed', channel: s.channel }); check(w.name === 'renamed', w) }],
  ['Webhook.send', 'POST /webhooks/{}/{}', async () => { s.hooked = await s.hook.send({ content: 'by hook', username: 'somebody' }); check(s.hooked.webhookId === s.hook.id && s.hooked.author.username === 'somebody', s.hooked) }],
  ['Webhook.fetchMessage', 'GET /webhooks/{}/{}/messages/{}', async () => { const m = await s.hook.fetchMessage(s.hooked.id); check(m.content === 'by hook', m) }],
  ['Webhook.editMessage', 'PATCH /webhooks/{}/{}/messages/{}', async () => { const m = await s.hook.editMessage(s.hooked.id, 'edited'); check(m.content === 'edited', m) }],
  ['Webhook.deleteMessage', 'DELETE /webhooks/{}/{}/messages/{}', async () => { await s.hook.deleteMessage(s.hooked.id) }],
  ['Message.fetchWebhook', 'GET /webhooks/{}', async () => { const w = await s.hooked.fetchWebhook(); check(w.id === s.hook.id, w) }],
  ['Webhook.delete', 'DELETE /webhooks/{}/{}', async () => { await s.hook.delete() }],
  ['TextChannel.delete', 'DELETE /channels/{}', async () => { await s.clone.delete() }],
  ['GuildChannelManager.delete', 'DELETE /channels/{}', async () => { await s.guild.channels.delete(s.made) }],
  ['Guild.leave', 'DELETE /users/@me/guilds/{}', async () => { await (await client.guilds.fetch(given.spare)).leave() }]
]

// What has no endpoint here, and why, by the beginning of its name or a pattern.
const outside = [
  [/\.(resolve|resolveId|resolveIdentifier|equals|toString|toJSON|valueOf|isReady|inGuild|comparePosition\w*|botRoleFor|permissions\w*|overwritesFor|memberPermissions|rolePermissions|is[A-Z]\w*|\w+URL|resolveComponent|dmChannel|generateInvite|create\w*Collector|await\w*|clone|deleteDM|destroy|login)$/, 'no endpoint of its own'],
  [/Sticker|Soundboard|Template|Widget|Welcome|Vanity|Onboarding|Integration|Preview|Emoji\w*\.(create|edit|delete|fetchAuthor)/, 'nothing of the kind here'],
  [/incident|Incident|disableInvites|MFALevel|Splash|RulesChannel|PublicUpdates|SafetyAlerts|PremiumProgress|TargetUsers|MemberCounts|setFlags|fetchFlags|prune/i, 'nothing of the kind here'],
  [/\.(setBanner|setOwner|setIcon|setAvatar|setAFKChannel)$/, 'needs a voice channel, a picture or to be the owner; PATCH is called by others'],
  [/Role\.(setColor|setIcon)|deleteMessage|setArchived|crosspost|forward|startThread|addFollower|rawFetch|setType|setDefaultAuto|endPoll|Poll|removeAttachments/, 'an older name, or nothing of the kind here'],
  [/Guild\.(delete|edit\w+)|GuildManager\.create|GuildMemberManager\.add$|[bB]ulk(Ban|Create)|ClientApplication\.(edit|fetch\w+)|GuildScheduledEventManager|Message\.fetchWebhook/, 'not for bots here, or nothing of the kind here'],
  [/ClientUser\.(fetch|createDM|send)|MessageManager\.fetchPinned|Webhook\.(sendSlackMessage)|VoiceState|GuildMember\.(send|createDM)|DMChannel\.(fetchPins)/, 'another name of what is called, or nothing of the kind here']
]

function methodsOf (label, object) {
  const names = new Set()
  for (let at = Object.getPrototypeOf(object); at && !['Object', 'Base', 'BaseManager', 'EventEmitter', 'AsyncEventEmitter', 'BaseClient'].includes(at.constructor.name); at = Object.getPrototypeOf(at)) {
    for (const [name, d] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
      if (typeof d.value === 'function' && name !== 'constructor' && !name.startsWith('_')) names.add(`${label}.${name}`)
    }
  }
  return names
}

function complete () {
  const tabled = new Set(calls.map(([name]) => name))
  const objects = {
    Client: client, ClientUser: client.user, ClientApplication: client.application, ChannelManager: client.channels, GuildManager: client.guilds, UserManager: client.users,
    User: client.users.cache.get(given.owner), Guild: s.guild, GuildChannelManager: s.guild.channels, TextChannel: s.channel, PermissionOverwriteManager: s.channel.permissionOverwrites,
    RoleManager: s.guild.roles, Role: s.role, GuildMemberManager: s.guild.members, GuildMember: s.friend, GuildMemberRoleManager: s.friend.roles, GuildBanManager: s.guild.bans,
    GuildInviteManager: s.guild.invites, Invite: s.invite, MessageManager: s.channel.messages, Message: s.reply, ReactionManager: s.reply.reactions, GuildEmojiManager: s.guild.emojis
  }
  for (const [label, object] of Object.entries(objects)) {
    for (const name of methodsOf(label, object)) {
      if (!tabled.has(name) && !outside.some(([pattern]) => pattern.test(name))) say({ call: name, error: 'it is neither in the table nor out of what there is here' })
    }
  }
}

const shape = endpoint => new RegExp('^' + endpoint.split('{}').map(part => part.replace(/[.*+?^$()|[\]\\]/g, '\\$&')).join('[^/]+') + '$')

async function run () {
  const ready = new Promise(resolve => client.once(Events.ClientReady, resolve))
  await client.login(given.token)
  await ready
  say({ ready: true })
  for (const [call, endpoint, run, after] of calls) {
    if ([endpoint, after].some(e => e && !given.routes.includes(e))) {
      say({ call, waits: true })
      continue
    }
    asked = []
    try {
      await run()
      if (endpoint && !asked.some(a => shape(endpoint).test(a))) throw new Error(`asked for ${asked} and not for ${endpoint}`)
      say({ call, ok: true })
    } catch (error) {
      say({ call, error: `${error.stack}`.slice(0, 600) })
    }
  }
  complete()
  await events()
  await client.destroy()
}

async function events () {
  for (const dispatch of given.dispatches) {
    if (silent.includes(dispatch)) continue
    const event = eventOf[dispatch]
    if (!event) {
      say({ event: dispatch, error: 'no event of the library is named for it' })
      continue
    }
    for (let waited = 0; !heard.has(event) && waited < patience; waited += 50) await new Promise(resolve => setTimeout(resolve, 50))
    say(heard.has(event) ? { event, ok: true } : { event, error: `${dispatch} was not heard as ${event}` })
  }
}

client.on(Events.Error, error => say({ event: 'error', error: `${error.stack}` }))
client.on(Events.Warn, text => say({ event: 'warn', error: text }))
process.on('warning', warning => { if (warning.name !== 'DeprecationWarning') say({ event: 'warning', error: `${warning.stack}` }) })
await run()
