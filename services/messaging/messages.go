package messaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/wire"
)

var (
	postsCreated  = metrics.NewCounter(`xcord_messaging_posts_total{op="create"}`)
	postsRepeated = metrics.NewCounter(`xcord_messaging_posts_total{op="repeat"}`)
	postsEdited   = metrics.NewCounter(`xcord_messaging_posts_total{op="edit"}`)
	postsDeleted  = metrics.NewCounter(`xcord_messaging_posts_total{op="delete"}`)
)

// flagsAllowed are the flags that an author may set; all others are the server's.
const flagsAllowed = wire.FlagSuppressEmbeds | wire.FlagSuppressNotifications

// exempt from slow mode is who has one of these.
const exempt = perm.ManageChannels | perm.ManageMessages | perm.BypassSlowmode

// bigGuild is from how many members on a guild's posts are the first to be refused when memory runs short: the number from which
// the gateway protocol calls a guild large whatever a client says. The few of that size have most of the posts, and the many
// small ones go on.
const bigGuild = 250

func mustText(c *wire.Channel) error {
	if !c.Type.Texts() {
		return fault.New(fault.NonTextChannel)
	}
	return nil
}

// createMessage puts a message into the log. It is judged and published by one version of the guild, or judged again.
func (s *Service) createMessage(c *rest.Call, in wire.CreateMessage) (rest.Raw, error) {
	if err := canBe(in, c.Files()); err != nil {
		return nil, err
	}
	b, err := s.bring(c, in.Attachments, perm.SendMessages)
	if err != nil {
		return nil, err
	}
	var reply rest.Raw
	err = s.roster.Fenced(c.Context(), c.ID("channel"), func() error {
		var err error
		reply, err = s.tryCreate(c, in, b)
		return err
	})
	s.settle(c.Context(), b, err)
	return reply, err
}

// canBe refuses what no message can be made of.
func canBe(in wire.CreateMessage, uploads []rest.Upload) error {
	if isEmpty(in.Content, in.Embeds) && len(uploads) == 0 {
		return fault.New(fault.EmptyMessage)
	}
	if err := wellFormed(in.Embeds, in.AllowedMentions); err != nil {
		return err
	}
	return mustBeFiles(in.Attachments, uploads, nil)
}

func isEmpty(content string, embeds []wire.Embed) bool {
	return strings.TrimSpace(content) == "" && len(embeds) == 0
}

func (s *Service) tryCreate(c *rest.Call, in wire.CreateMessage, b *brought) (rest.Raw, error) {
	ctx := c.Context()
	grant, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel|perm.SendMessages|b.needs())
	if err != nil {
		return nil, err
	}
	if err := mustText(grant.Channel); err != nil {
		return nil, err
	}
	if err := s.mayReach(ctx, grant, c.User()); err != nil {
		return nil, err
	}
	author, err := s.roster.User(ctx, c.User())
	if err != nil {
		return nil, err
	}
	body, err := s.compose(ctx, grant, in)
	if err != nil {
		return nil, err
	}
	body.Attachments = b.attachments
	return s.publishCreate(ctx, grant, author, body, in, b)
}

// compose makes the message of a request.
func (s *Service) compose(ctx context.Context, grant roster.Grant, in wire.CreateMessage) (wire.MessageBody, error) {
	if len(in.Embeds) > 0 && !grant.Perms.Has(perm.EmbedLinks) {
		return wire.MessageBody{}, fault.New(fault.MissingPermissions)
	}
	body := wire.MessageBody{
		ChannelID: grant.Channel.ID, Content: in.Content, Embeds: wire.Rich(in.Embeds), Flags: in.Flags & flagsAllowed,
		TTS: in.TTS && grant.Perms.Has(perm.SendTTSMessages), // without the permission it is sent, but not spoken
	}
	var replied id.ID
	if in.Reference != nil {
		to, err := s.reference(ctx, grant, *in.Reference)
		if err != nil {
			return wire.MessageBody{}, err
		}
		if to != nil {
			body.Type = wire.MessageReply
			body.Reference = &wire.MessageReference{ChannelID: grant.Channel.ID, MessageID: to.ID, GuildID: grant.Guild.ID}
			body.Referenced = wire.Some(to.Replied())
			replied = to.Author.ID
		}
	}
	return body, s.mention(ctx, grant, &body, in.AllowedMentions, replied)
}

// reference finds the message that a reply answers; nil when there is none and the sender does not mind.
func (s *Service) reference(ctx context.Context, grant roster.Grant, in wire.ReferenceRequest) (*wire.Message, error) {
	if !grant.Perms.Has(perm.ReadMessageHistory) {
		return nil, fault.New(fault.MissingPermissions)
	}
	if in.ChannelID != 0 && in.ChannelID != grant.Channel.ID {
		return nil, badReference("REPLIES_CANNOT_REFERENCE_OTHER_CHANNEL", "Cannot reply to a message in a different channel")
	}
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	m, err := s.find(ctx, grant.Channel.ID, in.MessageID)
	switch {
	case fault.Is(err, fault.UnknownMessage) && in.FailIfNotExists != nil && !*in.FailIfNotExists:
		return nil, nil
	case fault.Is(err, fault.UnknownMessage):
		return nil, badReference("REPLIES_UNKNOWN_MESSAGE", "Unknown message")
	case err != nil:
		return nil, err
	}
	users, err := s.roster.Users(ctx, []id.ID{m.author})
	if err != nil {
		return nil, err
	}
	to, err := whole(m, users)
	if err != nil {
		return nil, err
	}
	if !to.Type.Written() {
		return nil, badReference("REPLIES_CANNOT_REFERENCE_SYSTEM_MESSAGE", "Cannot reply to a system message")
	}
	return to, nil
}

// whole is a message with what is not in its body.
func whole(m found, authors map[id.ID]wire.User) (*wire.Message, error) {
	out := &wire.Message{ID: m.id, Timestamp: wire.Time(m.id.Ms()), Author: authors[m.author]}
	if err := json.Unmarshal(m.body, &out.MessageBody); err != nil {
		return nil, fmt.Errorf("message %s: %w", m.id, err)
	}
	if out.Own != nil {
		out.Author, out.Own = *out.Own, nil
	}
	return out, nil
}

func badReference(code, message string) error {
	return fault.Invalid(fault.Field{Path: "message_reference", Code: code, Message: message})
}

// publishCreate appends a message and answers with it, or with the one that had the same nonce before.
func (s *Service) publishCreate(ctx context.Context, grant roster.Grant, author wire.User, body wire.MessageBody, in wire.CreateMessage, b *brought) (rest.Raw, error) {
	raw, err := encode(body)
	if err != nil {
		return nil, err
	}
	told := in.Nonce
	if body.Own != nil {
		told = "" // a webhook has no other sessions that it is for
	}
	raw = withNonce(raw, told)
	authorJSON := roster.UserJSON(author)
	member, err := memberOf(grant)
	if err != nil {
		return nil, err
	}
	reopens, err := s.reopens(ctx, grant)
	if err != nil {
		return nil, err
	}
	payload, err := encode(wire.MessageSentPayload{
		Message: raw, Author: authorJSON, Member: member, ChannelType: grant.Channel.Type, Mentions: userIDs(body.Mentions), Reopens: reopens,
		Pings: pings(grant, author.ID, body),
	})
	if err != nil {
		return nil, err
	}
	post := bus.Post{
		Entry: entryOf(wire.MessageSent, grant, author.ID, payload), Fence: grant.Version,
		Big: grant.Guild.MemberCount >= bigGuild, Brings: b.ids(),
	}
	if in.EnforceNonce && in.Nonce != "" {
		post.Nonce = "m:" + author.ID.String() + ":" + grant.Channel.ID.String() + ":" + in.Nonce.Text()
		post.NonceTTL = s.config.NonceTTL
	}
	if slow := grant.Channel.RateLimitPerUser; slow > 0 && grant.Perms&exempt == 0 && body.Type.Written() {
		post.Pause = time.Duration(slow) * time.Second
	}
	receipt, err := s.log.Publish(ctx, post)
	if paused, ok := errors.AsType[*bus.PausedError](err); ok {
		return nil, fault.New(fault.Slowmode).WithRetryAfter(paused.Left)
	}
	if err != nil {
		return nil, err
	}
	if receipt.Repeat {
		postsRepeated.Inc()
		if raw, err = s.repeated(ctx, grant.Channel.ID, receipt.Pos); err != nil {
			return nil, err
		}
		b.used = b.isIn(raw) // it was the log that repeated it, after a reply that was lost
		return wire.AppendMessage(nil, bus.MessageID(receipt.Pos), authorJSON, withNonce(raw, told)), nil
	}
	b.used = true
	postsCreated.Inc()
	return wire.AppendMessage(nil, bus.MessageID(receipt.Pos), authorJSON, raw), nil
}

// repeated is what was accepted under a nonce that had been used.
func (s *Service) repeated(ctx context.Context, channel id.ID, at bus.Position) ([]byte, error) {
	e, ok, err := s.log.Read(ctx, at)
	if err != nil {
		return nil, err
	}
	if ok {
		return bodyOf(at, e.Body)
	}
	// The log has been trimmed within minutes, so it is committed.
	m, err := s.find(ctx, channel, bus.MessageID(at))
	return m.body, err
}

func entryOf(t wire.EventType, grant roster.Grant, actor id.ID, payload []byte) bus.Entry {
	return bus.Entry{Type: t, Actor: actor, Guild: grant.Guild.ID, Channel: grant.Channel.ID, To: grant.To(), Body: payload}
}

// editMessage changes what the author wrote. Who manages messages may hide another's embeds.
func (s *Service) editMessage(c *rest.Call, in wire.EditMessage) (rest.Raw, error) {
	if err := wellFormed(in.Embeds.Value, in.AllowedMentions); err != nil {
		return nil, err
	}
	b, err := s.bring(c, in.Attachments.Value, 0)
	if err != nil {
		return nil, err
	}
	var reply rest.Raw
	err = s.judged(c, func() (err error) {
		reply, err = s.tryEdit(c, in, b)
		return err
	})
	s.settle(c.Context(), b, err)
	return reply, err
}

// gone says in the client's words that the delete marker stands.
func gone(err error) error {
	if errors.Is(err, bus.ErrGone) {
		return fault.Wrap(fault.UnknownMessage, err)
	}
	return err
}

func (s *Service) tryEdit(c *rest.Call, in wire.EditMessage, b *brought) (rest.Raw, error) {
	ctx := c.Context()
	asOf, err := s.caughtUp(ctx)
	if err != nil {
		return nil, err
	}
	grant, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel|b.needs())
	if err != nil {
		return nil, err
	}
	m, err := s.find(ctx, grant.Channel.ID, c.ID("message"))
	if err != nil {
		return nil, err
	}
	if m.author != c.User() {
		if in.Flags == nil || in.Content.Set || in.Embeds.Set || in.AllowedMentions != nil || in.Attachments.Set || len(c.Files()) > 0 {
			return nil, fault.New(fault.NotYourMessage)
		}
		if grant, err = s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel|perm.ManageMessages); err != nil {
			return nil, err
		}
	}
	if grant.Member != nil && grant.Member.TimedOut(s.now()) && !grant.Perms.Has(perm.Administrator) {
		return nil, fault.New(fault.MissingPermissions) // an edit would be a way to go on talking
	}
	return s.rewrite(ctx, rewriting{grant: grant, actor: c.User(), m: m, asOf: asOf, uploads: c.Files(), b: b}, in)
}

// rewriting is an edit that its actor may make, of a message as it was read as of a place in the log.
type rewriting struct {
	grant   roster.Grant
	actor   id.ID
	m       found
	asOf    bus.Position
	uploads []rest.Upload
	b       *brought
}

// rewrite makes a message what a request says.
func (s *Service) rewrite(ctx context.Context, r rewriting, in wire.EditMessage) (rest.Raw, error) {
	var body wire.MessageBody
	if err := json.Unmarshal(r.m.body, &body); err != nil {
		return nil, fmt.Errorf("message %s: %w", r.m.id, err)
	}
	if !body.Type.Written() {
		return nil, fault.New(fault.SystemMessage)
	}
	var err error
	if body.Attachments, err = keep(body.Attachments, in.Attachments, r.uploads, r.b); err != nil {
		return nil, err
	}
	edited := body.EditedTimestamp
	if err := s.change(ctx, r.grant, &body, in); err != nil {
		return nil, err
	}
	if r.m.author != r.actor {
		body.EditedTimestamp = edited // what the author wrote is as it was
	}
	reply, err := s.publishEdit(ctx, r.grant, r.actor, r.m, body, r.asOf, r.b.ids()...)
	r.b.used = err == nil
	return reply, err
}

// change applies a request to a message; null empties.
func (s *Service) change(ctx context.Context, grant roster.Grant, body *wire.MessageBody, in wire.EditMessage) error {
	if in.Embeds.Set {
		if len(in.Embeds.Value) > 0 && !grant.Perms.Has(perm.EmbedLinks) {
			return fault.New(fault.MissingPermissions)
		}
		body.Embeds = wire.Rich(in.Embeds.Value)
	}
	if in.Content.Set {
		body.Content = in.Content.Value
	}
	if in.Flags != nil {
		body.Flags = body.Flags&^wire.FlagSuppressEmbeds | *in.Flags&wire.FlagSuppressEmbeds
	}
	if isEmpty(body.Content, body.Embeds) && len(body.Attachments) == 0 {
		return fault.New(fault.EmptyMessage)
	}
	body.EditedTimestamp = wire.At(s.now())
	if !in.Content.Set && in.AllowedMentions == nil {
		return nil // whom it mentions stays too
	}
	var replied id.ID
	if to := body.Referenced.Ptr(); to != nil && mentions(body.Mentions, to.Author.ID) {
		replied = to.Author.ID
	}
	return s.mention(ctx, grant, body, in.AllowedMentions, replied)
}

func mentions(users []wire.User, user id.ID) bool {
	for _, u := range users {
		if u.ID == user {
			return true
		}
	}
	return false
}

// publishEdit appends what a message is now, with attachments that it brings, and answers with it.
func (s *Service) publishEdit(
	ctx context.Context, grant roster.Grant, actor id.ID, m found, body wire.MessageBody, asOf bus.Position, brings ...id.ID,
) (rest.Raw, error) {
	update, err := s.updateOf(ctx, grant, m, body)
	if err != nil {
		return nil, err
	}
	payload, err := encode(update)
	if err != nil {
		return nil, err
	}
	m.body = update.Message
	r, err := s.renderer(ctx, actor, grant.Channel.ID, []found{m})
	if err != nil {
		return nil, err
	}
	_, err = s.log.Publish(ctx, bus.Post{
		Entry: entryOf(wire.MessageUpdated, grant, actor, payload), Fence: grant.Version, Changes: []id.ID{m.id},
		Rewrites: m.id, AsOf: asOf, Brings: brings,
	})
	if err != nil {
		return nil, err
	}
	postsEdited.Inc()
	return r.append(nil, m)
}

// deleteMessage takes a message away: its author may, and who manages messages.
func (s *Service) deleteMessage(c *rest.Call, _ rest.None) (rest.None, error) {
	err := s.roster.Fenced(c.Context(), c.ID("channel"), func() error { return s.tryDelete(c) })
	return rest.None{}, gone(err)
}

func (s *Service) tryDelete(c *rest.Call) error {
	ctx := c.Context()
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	grant, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel)
	if err != nil {
		return err
	}
	m, err := s.find(ctx, grant.Channel.ID, c.ID("message"))
	if err != nil {
		return err
	}
	kind, err := kindOf(m)
	if err != nil {
		return err
	}
	if !kind.Deletable() {
		return fault.New(fault.SystemMessage)
	}
	if m.author == c.User() {
		return s.publishDelete(ctx, grant, c.User(), nil, m.id)
	}
	// Asked again with the permission, so that a refusal is never given from a cache.
	if grant, err = s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel|perm.ManageMessages); err != nil {
		return err
	}
	note := wire.AuditNote{Action: wire.AuditMessageDelete, Actor: c.User(), Target: m.author, Reason: c.Reason(),
		Options: map[string]string{"channel_id": grant.Channel.ID.String(), "count": "1"}}
	return s.publishDelete(ctx, grant, c.User(), []wire.AuditNote{note}, m.id)
}

// kindOf is what kind of message one is.
func kindOf(m found) (wire.MessageType, error) {
	var body struct {
		Type wire.MessageType `json:"type"`
	}
	if err := json.Unmarshal(m.body, &body); err != nil {
		return 0, fmt.Errorf("message %s: %w", m.id, err)
	}
	return body.Type, nil
}

// bulkDeleteAge is how old a message may be that is deleted with others.
const bulkDeleteAge = 14 * 24 * time.Hour

// bulkTries is how often a bulk delete is judged while others delete from among the same messages.
const bulkTries = 10

// deleteMessages takes messages away all at once, for who manages messages: one entry, which is one event. Ids that come twice, or of
// which there is no message in the channel, are passed over.
func (s *Service) deleteMessages(c *rest.Call, in wire.BulkDelete) (rest.None, error) {
	if n := len(in.Messages); n < wire.BulkDeleteMin || n > wire.BulkDeleteMax {
		return rest.None{}, fault.New(fault.BulkDeleteCount)
	}
	for range bulkTries {
		err := s.roster.Fenced(c.Context(), c.ID("channel"), func() error { return s.tryDeletes(c, in.Messages) })
		if !errors.Is(err, bus.ErrGone) {
			return rest.None{}, err
		}
	}
	return rest.None{}, fault.Unavailable(fmt.Errorf("others deleted from among the same messages %d times", bulkTries), time.Second)
}

func (s *Service) tryDeletes(c *rest.Call, messages []id.ID) error {
	ctx := c.Context()
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	grant, err := s.roster.Can(ctx, c.User(), c.ID("channel"), perm.ViewChannel|perm.ManageMessages)
	if err != nil {
		return err
	}
	messages = slices.Sorted(slices.Values(messages))
	if messages[0].Time().Before(s.now().Add(-bulkDeleteAge)) {
		return fault.New(fault.TooOldForBulkDelete)
	}
	there, err := s.findAll(ctx, grant.Channel.ID, slices.Compact(messages))
	if err != nil || len(there) == 0 {
		return err
	}
	note := wire.AuditNote{Action: wire.AuditMessageBulkDelete, Actor: c.User(), Target: grant.Channel.ID, Reason: c.Reason(),
		Options: map[string]string{"count": strconv.Itoa(len(there))}}
	return s.publishDelete(ctx, grant, c.User(), []wire.AuditNote{note}, idsOf(there)...)
}

// idsOf are the ids of messages, the oldest first.
func idsOf(messages []found) []id.ID {
	ids := make([]id.ID, len(messages))
	for i, m := range messages {
		ids[i] = m.id
	}
	slices.Sort(ids)
	return ids
}

// setsOf are the sets that a deletion makes untrue.
func setsOf(channel id.ID, messages []id.ID) []string {
	keys := []string{pinSet(channel)}
	for _, m := range messages {
		keys = append(keys, reactionSet(m))
	}
	return keys
}

// publishDelete deletes messages. notes are for the audit log, which is written by who owns it, from the entry.
func (s *Service) publishDelete(ctx context.Context, grant roster.Grant, actor id.ID, notes []wire.AuditNote, messages ...id.ID) error {
	payload, err := encode(wire.MessageDeletedPayload{IDs: messages})
	if err != nil {
		return err
	}
	if payload, err = wire.WithAudit(payload, notes); err != nil {
		return err
	}
	_, err = s.log.Publish(ctx, bus.Post{
		Entry: entryOf(wire.MessageDeleted, grant, actor, payload), Fence: grant.Version,
		Changes: messages, Deletes: messages, Forgets: setsOf(grant.Channel.ID, messages),
	})
	if err != nil {
		return err
	}
	postsDeleted.Inc()
	return nil
}
