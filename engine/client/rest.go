package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

func answer[Out any](ctx context.Context, c *Client, q call) (Out, error) {
	var out Out
	err := c.do(ctx, q, &out)
	return out, err
}

func get[Out any](ctx context.Context, c *Client, path string) (Out, error) {
	return answer[Out](ctx, c, call{method: http.MethodGet, path: path})
}

func post[Out any](ctx context.Context, c *Client, path string, in any) (Out, error) {
	return answer[Out](ctx, c, call{method: http.MethodPost, path: path, in: in})
}

func patch[Out any](ctx context.Context, c *Client, path string, in any) (Out, error) {
	return answer[Out](ctx, c, call{method: http.MethodPatch, path: path, in: in})
}

func (c *Client) put(ctx context.Context, path string, in any) error {
	return c.do(ctx, call{method: http.MethodPut, path: path, in: in}, nil)
}

func (c *Client) delete(ctx context.Context, path string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: path}, nil)
}

// at fills a path; ids and numbers are as they are, texts are escaped.
func at(format string, args ...any) string {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = url.PathEscape(s)
		}
	}
	return fmt.Sprintf(format, args...)
}

// query builds a query string and leaves out what is zero.
type query struct{ values url.Values }

func (q *query) set(key, value string) {
	if q.values == nil {
		q.values = url.Values{}
	}
	q.values.Set(key, value)
}

func (q *query) id(key string, v id.ID) {
	if v != 0 {
		q.set(key, v.String())
	}
}

func (q *query) int(key string, v *int) {
	if v != nil {
		q.set(key, strconv.Itoa(*v))
	}
}

func (q *query) bool(key string, v bool) {
	if v {
		q.set(key, "true")
	}
}

func (q *query) on(path string) string {
	if len(q.values) == 0 {
		return path
	}
	return path + "?" + q.values.Encode()
}

// Accounts

// Register makes an account.
func (c *Client) Register(ctx context.Context, in wire.Register) (wire.LoggedIn, error) {
	return post[wire.LoggedIn](ctx, c, "/auth/register", in)
}

// Login begins a session; the client itself keeps its token. Use WithToken with the one in the answer. For an account with a
// second factor the answer has no LoggedIn, but the ticket for LoginCode.
func (c *Client) Login(ctx context.Context, login, password string) (wire.LoginAnswer, error) {
	return post[wire.LoginAnswer](ctx, c, "/auth/login", wire.Login{Login: login, Password: password})
}

// LoginCode is the second step of a Login.
func (c *Client) LoginCode(ctx context.Context, ticket, code string) (wire.LoggedIn, error) {
	return post[wire.LoggedIn](ctx, c, "/auth/mfa/totp", wire.LoginCode{Ticket: ticket, Code: code})
}

// Refresh exchanges a refresh token for its successor and a new access token.
func (c *Client) Refresh(ctx context.Context, refreshToken string) (wire.Tokens, error) {
	return post[wire.Tokens](ctx, c, "/auth/refresh", wire.Refresh{RefreshToken: refreshToken})
}

// Logout ends the session that the client's token belongs to.
func (c *Client) Logout(ctx context.Context) error {
	return c.do(ctx, call{method: http.MethodPost, path: "/auth/logout"}, nil)
}

// Sessions lists the logins of the client's user.
func (c *Client) Sessions(ctx context.Context) (wire.UserSessions, error) {
	return get[wire.UserSessions](ctx, c, "/auth/sessions")
}

// EndSessions ends logins of the client's user, by their hashes.
func (c *Client) EndSessions(ctx context.Context, hashes ...string) error {
	return c.do(ctx, call{method: http.MethodPost, path: "/auth/sessions/logout", in: wire.EndSessions{SessionIDHashes: hashes}}, nil)
}

// Me is the client's own user.
func (c *Client) Me(ctx context.Context) (wire.SelfUser, error) {
	return get[wire.SelfUser](ctx, c, "/users/@me")
}

// UpdateMe changes the client's own user.
func (c *Client) UpdateMe(ctx context.Context, in wire.UpdateSelf) (wire.SelfUser, error) {
	return patch[wire.SelfUser](ctx, c, "/users/@me", in)
}

// DeleteMe deletes the client's own user.
func (c *Client) DeleteMe(ctx context.Context, in wire.DeleteSelf) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/users/@me", in: in}, nil)
}

// User is somebody.
func (c *Client) User(ctx context.Context, user id.ID) (wire.User, error) {
	return get[wire.User](ctx, c, at("/users/%d", user))
}

// Applications and bots

// CreateApplication makes an application and its bot. The bot has no token before CreateBot.
func (c *Client) CreateApplication(ctx context.Context, name string) (wire.Application, error) {
	return post[wire.Application](ctx, c, "/applications", wire.CreateApplication{Name: name})
}

// Applications are those that the user owns.
func (c *Client) Applications(ctx context.Context) ([]wire.Application, error) {
	return get[[]wire.Application](ctx, c, "/applications")
}

// Application is the bot's own.
func (c *Client) Application(ctx context.Context) (wire.Application, error) {
	return get[wire.Application](ctx, c, "/applications/@me")
}

// DeleteApplication deletes an application with its bot.
func (c *Client) DeleteApplication(ctx context.Context, application id.ID) error {
	return c.delete(ctx, at("/applications/%d", application))
}

// CreateBot gives the bot its first token, without the "Bot " that goes before it.
func (c *Client) CreateBot(ctx context.Context, application id.ID) (wire.BotToken, error) {
	return post[wire.BotToken](ctx, c, at("/applications/%d/bot", application), nil)
}

// ResetBot gives the bot another token; the old one is dead.
func (c *Client) ResetBot(ctx context.Context, application id.ID) (wire.BotToken, error) {
	return post[wire.BotToken](ctx, c, at("/applications/%d/bot/reset", application), nil)
}

// Gateway tells where the gateway is.
func (c *Client) Gateway(ctx context.Context) (wire.Gateway, error) {
	return get[wire.Gateway](ctx, c, "/gateway")
}

// GatewayBot tells where the gateway is and how often the bot may identify.
func (c *Client) GatewayBot(ctx context.Context) (wire.GatewayBot, error) {
	return get[wire.GatewayBot](ctx, c, "/gateway/bot")
}

// Guilds

// CreateGuild makes a guild that the user owns.
func (c *Client) CreateGuild(ctx context.Context, name string) (wire.Guild, error) {
	return c.CreateGuildOf(ctx, wire.CreateGuild{Name: name})
}

// CreateGuildOf is CreateGuild with all that can be said of it.
func (c *Client) CreateGuildOf(ctx context.Context, in wire.CreateGuild) (wire.Guild, error) {
	return post[wire.Guild](ctx, c, "/guilds", in)
}

// Guild is a guild that the user is in.
func (c *Client) Guild(ctx context.Context, guild id.ID, in wire.GetGuild) (wire.Guild, error) {
	var q query
	q.bool("with_counts", in.WithCounts)
	return get[wire.Guild](ctx, c, q.on(at("/guilds/%d", guild)))
}

// UpdateGuild changes a guild.
func (c *Client) UpdateGuild(ctx context.Context, guild id.ID, in wire.UpdateGuild) (wire.Guild, error) {
	return patch[wire.Guild](ctx, c, at("/guilds/%d", guild), in)
}

// DeleteGuild deletes a guild.
func (c *Client) DeleteGuild(ctx context.Context, guild id.ID) error {
	return c.delete(ctx, at("/guilds/%d", guild))
}

// MyGuilds is a page of the guilds that the user is in.
func (c *Client) MyGuilds(ctx context.Context, in wire.ListGuilds) ([]wire.MyGuild, error) {
	var q query
	q.id("before", in.Before)
	q.id("after", in.After)
	q.int("limit", in.Limit)
	q.bool("with_counts", in.WithCounts)
	return get[[]wire.MyGuild](ctx, c, q.on("/users/@me/guilds"))
}

// LeaveGuild leaves a guild.
func (c *Client) LeaveGuild(ctx context.Context, guild id.ID) error {
	return c.delete(ctx, at("/users/@me/guilds/%d", guild))
}

// Members is a page of a guild's members.
func (c *Client) Members(ctx context.Context, guild id.ID, in wire.ListMembers) ([]wire.Member, error) {
	var q query
	q.int("limit", in.Limit)
	q.id("after", in.After)
	return get[[]wire.Member](ctx, c, q.on(at("/guilds/%d/members", guild)))
}

// SearchMembers are members whose names begin with a text.
func (c *Client) SearchMembers(ctx context.Context, guild id.ID, in wire.SearchMembers) ([]wire.Member, error) {
	var q query
	q.set("query", in.Query)
	q.int("limit", in.Limit)
	return get[[]wire.Member](ctx, c, q.on(at("/guilds/%d/members/search", guild)))
}

// Member is a member of a guild.
func (c *Client) Member(ctx context.Context, guild, user id.ID) (wire.Member, error) {
	return get[wire.Member](ctx, c, at("/guilds/%d/members/%d", guild, user))
}

// UpdateMember changes a member.
func (c *Client) UpdateMember(ctx context.Context, guild, user id.ID, in wire.UpdateMember) (wire.Member, error) {
	return patch[wire.Member](ctx, c, at("/guilds/%d/members/%d", guild, user), in)
}

// AddBot brings a bot into a guild.
func (c *Client) AddBot(ctx context.Context, guild, bot id.ID) error {
	return c.put(ctx, at("/guilds/%d/members/%d", guild, bot), nil)
}

// Kick removes a member; reason is for the audit log.
func (c *Client) Kick(ctx context.Context, guild, user id.ID, reason string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: at("/guilds/%d/members/%d", guild, user), reason: reason}, nil)
}

// Ban keeps a user out of a guild, member or not, and deletes what they wrote lately; reason is kept with the ban.
func (c *Client) Ban(ctx context.Context, guild, user id.ID, in wire.BanUser, reason string) error {
	return c.do(ctx, call{method: http.MethodPut, path: at("/guilds/%d/bans/%d", guild, user), in: in, reason: reason}, nil)
}

// AuditLog is a page of a guild's audit log.
func (c *Client) AuditLog(ctx context.Context, guild id.ID, in wire.ListAuditLog) (wire.AuditLog, error) {
	var q query
	q.id("user_id", in.User)
	q.id("target_id", in.Target)
	if action := int(in.Action); action != 0 {
		q.int("action_type", &action)
	}
	q.id("before", in.Before)
	q.id("after", in.After)
	q.int("limit", in.Limit)
	return get[wire.AuditLog](ctx, c, q.on(at("/guilds/%d/audit-logs", guild)))
}

// Unban lets a banned user join again.
func (c *Client) Unban(ctx context.Context, guild, user id.ID) error {
	return c.delete(ctx, at("/guilds/%d/bans/%d", guild, user))
}

// GiveRole gives a member a role.
func (c *Client) GiveRole(ctx context.Context, guild, user, role id.ID) error {
	return c.put(ctx, at("/guilds/%d/members/%d/roles/%d", guild, user, role), nil)
}

// TakeRole takes a role from a member.
func (c *Client) TakeRole(ctx context.Context, guild, user, role id.ID) error {
	return c.delete(ctx, at("/guilds/%d/members/%d/roles/%d", guild, user, role))
}

// Roles are a guild's roles.
func (c *Client) Roles(ctx context.Context, guild id.ID) ([]wire.Role, error) {
	return get[[]wire.Role](ctx, c, at("/guilds/%d/roles", guild))
}

// CreateRole makes a role.
func (c *Client) CreateRole(ctx context.Context, guild id.ID, in wire.CreateRole) (wire.Role, error) {
	return post[wire.Role](ctx, c, at("/guilds/%d/roles", guild), in)
}

// UpdateRole changes a role.
func (c *Client) UpdateRole(ctx context.Context, guild, role id.ID, in wire.UpdateRole) (wire.Role, error) {
	return patch[wire.Role](ctx, c, at("/guilds/%d/roles/%d", guild, role), in)
}

// MoveRoles changes the order of roles.
func (c *Client) MoveRoles(ctx context.Context, guild id.ID, in []wire.MoveRole) ([]wire.Role, error) {
	return patch[[]wire.Role](ctx, c, at("/guilds/%d/roles", guild), in)
}

// DeleteRole deletes a role.
func (c *Client) DeleteRole(ctx context.Context, guild, role id.ID) error {
	return c.delete(ctx, at("/guilds/%d/roles/%d", guild, role))
}

// Channels and invites

// Channels are a guild's channels, as far as the user may see them.
func (c *Client) Channels(ctx context.Context, guild id.ID) ([]wire.Channel, error) {
	return get[[]wire.Channel](ctx, c, at("/guilds/%d/channels", guild))
}

// CreateChannel makes a channel.
func (c *Client) CreateChannel(ctx context.Context, guild id.ID, in wire.CreateChannel) (wire.Channel, error) {
	return post[wire.Channel](ctx, c, at("/guilds/%d/channels", guild), in)
}

// MoveChannels moves channels of a guild, all or none.
func (c *Client) MoveChannels(ctx context.Context, guild id.ID, in []wire.MoveChannel) error {
	return c.do(ctx, call{method: http.MethodPatch, path: at("/guilds/%d/channels", guild), in: in}, nil)
}

// Channel is a channel.
func (c *Client) Channel(ctx context.Context, channel id.ID) (wire.Channel, error) {
	return get[wire.Channel](ctx, c, at("/channels/%d", channel))
}

// UpdateChannel changes a channel.
func (c *Client) UpdateChannel(ctx context.Context, channel id.ID, in wire.UpdateChannel) (wire.Channel, error) {
	return patch[wire.Channel](ctx, c, at("/channels/%d", channel), in)
}

// DeleteChannel deletes a channel.
func (c *Client) DeleteChannel(ctx context.Context, channel id.ID) error {
	return c.delete(ctx, at("/channels/%d", channel))
}

// SetOverwrite sets what a role or member may do in a channel.
func (c *Client) SetOverwrite(ctx context.Context, channel, target id.ID, in wire.SetOverwrite) error {
	return c.put(ctx, at("/channels/%d/permissions/%d", channel, target), in)
}

// DeleteOverwrite takes it back.
func (c *Client) DeleteOverwrite(ctx context.Context, channel, target id.ID) error {
	return c.delete(ctx, at("/channels/%d/permissions/%d", channel, target))
}

// OpenChannel opens the direct channel with a user, or makes a group with several.
func (c *Client) OpenChannel(ctx context.Context, recipients ...id.ID) (wire.PrivateChannel, error) {
	return post[wire.PrivateChannel](ctx, c, "/users/@me/channels", wire.OpenChannel{Recipients: recipients})
}

// PrivateChannels are the user's direct channels.
func (c *Client) PrivateChannels(ctx context.Context) ([]wire.PrivateChannel, error) {
	return get[[]wire.PrivateChannel](ctx, c, "/users/@me/channels")
}

// AddRecipient brings a user into a group.
func (c *Client) AddRecipient(ctx context.Context, group, user id.ID) error {
	return c.put(ctx, at("/channels/%d/recipients/%d", group, user), nil)
}

// RemoveRecipient takes a user out of a group.
func (c *Client) RemoveRecipient(ctx context.Context, group, user id.ID) error {
	return c.delete(ctx, at("/channels/%d/recipients/%d", group, user))
}

// CreateInvite makes an invite into a channel's guild.
func (c *Client) CreateInvite(ctx context.Context, channel id.ID, in wire.CreateInvite) (wire.Invite, error) {
	return post[wire.Invite](ctx, c, at("/channels/%d/invites", channel), in)
}

// ChannelInvites are the invites into a channel.
func (c *Client) ChannelInvites(ctx context.Context, channel id.ID) ([]wire.Invite, error) {
	return get[[]wire.Invite](ctx, c, at("/channels/%d/invites", channel))
}

// GuildInvites are the invites into a guild.
func (c *Client) GuildInvites(ctx context.Context, guild id.ID) ([]wire.Invite, error) {
	return get[[]wire.Invite](ctx, c, at("/guilds/%d/invites", guild))
}

// Invite is what an invite leads to.
func (c *Client) Invite(ctx context.Context, code string, in wire.GetInvite) (wire.Invite, error) {
	var q query
	q.bool("with_counts", in.WithCounts)
	return get[wire.Invite](ctx, c, q.on(at("/invites/%s", code)))
}

// Join accepts an invite.
func (c *Client) Join(ctx context.Context, code string) (wire.Invite, error) {
	return post[wire.Invite](ctx, c, at("/invites/%s", code), struct{}{})
}

// DeleteInvite deletes an invite.
func (c *Client) DeleteInvite(ctx context.Context, code string) (wire.Invite, error) {
	return answer[wire.Invite](ctx, c, call{method: http.MethodDelete, path: at("/invites/%s", code)})
}

// Messages

// Say sends a text.
func (c *Client) Say(ctx context.Context, channel id.ID, text string) (wire.Message, error) {
	return c.CreateMessage(ctx, channel, wire.CreateMessage{Content: text})
}

// CreateMessage sends a message. It always goes with an enforced nonce, a random one unless in has its own, so that it is
// retried after failures and still there only once.
func (c *Client) CreateMessage(ctx context.Context, channel id.ID, in wire.CreateMessage) (wire.Message, error) {
	if in.Nonce == "" {
		in.Nonce = newNonce()
	}
	in.EnforceNonce = true
	return answer[wire.Message](ctx, c, call{
		method: http.MethodPost, path: at("/channels/%d/messages", channel), in: in, safe: true,
	})
}

// newNonce is 24 hex digits; 25 characters is the most that there may be.
func newNonce() wire.Nonce {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	quoted, _ := json.Marshal(hex.EncodeToString(b[:]))
	return wire.Nonce(quoted)
}

// Message is a message.
func (c *Client) Message(ctx context.Context, channel, message id.ID) (wire.Message, error) {
	return get[wire.Message](ctx, c, at("/channels/%d/messages/%d", channel, message))
}

// Messages is a page of history, newest first.
func (c *Client) Messages(ctx context.Context, channel id.ID, in wire.ListMessages) ([]wire.Message, error) {
	var q query
	q.id("around", in.Around)
	q.id("before", in.Before)
	q.id("after", in.After)
	q.int("limit", in.Limit)
	return get[[]wire.Message](ctx, c, q.on(at("/channels/%d/messages", channel)))
}

// EditMessage changes a message of one's own.
func (c *Client) EditMessage(ctx context.Context, channel, message id.ID, in wire.EditMessage) (wire.Message, error) {
	return patch[wire.Message](ctx, c, at("/channels/%d/messages/%d", channel, message), in)
}

// DeleteMessage deletes a message.
func (c *Client) DeleteMessage(ctx context.Context, channel, message id.ID) error {
	return c.delete(ctx, at("/channels/%d/messages/%d", channel, message))
}

// DeleteMessages deletes 2 to 100 messages.
func (c *Client) DeleteMessages(ctx context.Context, channel id.ID, messages []id.ID) error {
	in := map[string][]id.ID{"messages": messages}
	return c.do(ctx, call{method: http.MethodPost, path: at("/channels/%d/messages/bulk-delete", channel), in: in}, nil)
}

// React adds one's own reaction to a message.
func (c *Client) React(ctx context.Context, channel, message id.ID, emoji string) error {
	return c.put(ctx, at("/channels/%d/messages/%d/reactions/%s/@me", channel, message, emoji), nil)
}

// Unreact takes one's own reaction away.
func (c *Client) Unreact(ctx context.Context, channel, message id.ID, emoji string) error {
	return c.delete(ctx, at("/channels/%d/messages/%d/reactions/%s/@me", channel, message, emoji))
}

// ClearReactions takes all reactions of a message away.
func (c *Client) ClearReactions(ctx context.Context, channel, message id.ID) error {
	return c.delete(ctx, at("/channels/%d/messages/%d/reactions", channel, message))
}

// Pin pins a message, and says so in the channel.
func (c *Client) Pin(ctx context.Context, channel, message id.ID) error {
	return c.put(ctx, at("/channels/%d/messages/pins/%d", channel, message), nil)
}

// Unpin takes a pin away.
func (c *Client) Unpin(ctx context.Context, channel, message id.ID) error {
	return c.delete(ctx, at("/channels/%d/messages/pins/%d", channel, message))
}

// Pins is a page of what is pinned in a channel, the latest pin first.
func (c *Client) Pins(ctx context.Context, channel id.ID, in wire.ListPins) (wire.PinnedMessages, error) {
	var q query
	if in.Before != "" {
		q.set("before", in.Before)
	}
	q.int("limit", in.Limit)
	return get[wire.PinnedMessages](ctx, c, q.on(at("/channels/%d/messages/pins", channel)))
}

// Typing shows that the user is typing.
func (c *Client) Typing(ctx context.Context, channel id.ID) error {
	return c.do(ctx, call{method: http.MethodPost, path: at("/channels/%d/typing", channel)}, nil)
}

// Ack says that everything up to a message has been read.
func (c *Client) Ack(ctx context.Context, channel, message id.ID, in wire.AckMessage) error {
	_, err := post[wire.Acked](ctx, c, at("/channels/%s/messages/%s/ack", channel, message), in)
	return err
}

// AckBulk is Ack for several channels, all or none.
func (c *Client) AckBulk(ctx context.Context, states []wire.BulkAckState) error {
	return c.do(ctx, call{method: http.MethodPost, path: "/read-states/ack-bulk", in: wire.BulkAck{ReadStates: states}}, nil)
}

// Receipts are those who have read a message.
func (c *Client) Receipts(ctx context.Context, channel, message id.ID) ([]wire.Receipt, error) {
	return get[[]wire.Receipt](ctx, c, at("/channels/%s/messages/%s/receipts", channel, message))
}

// UpdateGuildSettings changes how one wants to hear of a guild.
func (c *Client) UpdateGuildSettings(ctx context.Context, guild id.ID, in wire.UpdateGuildSettings) (wire.GuildSettings, error) {
	return patch[wire.GuildSettings](ctx, c, at("/users/@me/guilds/%s/settings", guild), in)
}
