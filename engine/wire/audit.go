package wire

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/xcord/xcord/engine/id"
)

// AuditAction says what somebody has done, by the API's number for it.
type AuditAction int

// The actions that are written down here.
const (
	AuditGuildUpdate       AuditAction = 1
	AuditChannelCreate     AuditAction = 10
	AuditChannelUpdate     AuditAction = 11
	AuditChannelDelete     AuditAction = 12
	AuditOverwriteCreate   AuditAction = 13
	AuditOverwriteUpdate   AuditAction = 14
	AuditOverwriteDelete   AuditAction = 15
	AuditMemberKick        AuditAction = 20
	AuditBanAdd            AuditAction = 22
	AuditBanRemove         AuditAction = 23
	AuditMemberUpdate      AuditAction = 24
	AuditMemberRoleUpdate  AuditAction = 25
	AuditBotAdd            AuditAction = 28
	AuditRoleCreate        AuditAction = 30
	AuditRoleUpdate        AuditAction = 31
	AuditRoleDelete        AuditAction = 32
	AuditInviteCreate      AuditAction = 40
	AuditInviteDelete      AuditAction = 42
	AuditWebhookCreate     AuditAction = 50
	AuditWebhookUpdate     AuditAction = 51
	AuditWebhookDelete     AuditAction = 52
	AuditMessageDelete     AuditAction = 72
	AuditMessageBulkDelete AuditAction = 73
	AuditMessagePin        AuditAction = 74
	AuditMessageUnpin      AuditAction = 75
)

// AuditNote is what an entry of the log tells of who did it and why, for the guild's audit log. The body of an entry may have some of
// them under "audit", beside its payload: WithAudit puts them there, AuditOf finds them.
type AuditNote struct {
	// ID is 0 in an entry of the hot path, whose notes have the id of the entry itself.
	ID      id.ID             `json:"id,omitempty"`
	Action  AuditAction       `json:"action_type"`
	Actor   id.ID             `json:"user_id"`
	Target  id.ID             `json:"target_id"`
	Changes []AuditChange     `json:"changes,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	Reason  string            `json:"reason,omitempty"`
}

// Channel is the channel that a note tells of: whoever cannot see it has not to hear of it. 0 is none. That a channel was deleted tells of
// none: nobody can see it by then, and its note must not say more than that.
func (n AuditNote) Channel() id.ID {
	switch n.Action {
	case AuditChannelCreate, AuditChannelUpdate, AuditOverwriteCreate, AuditOverwriteUpdate, AuditOverwriteDelete, AuditMessageBulkDelete:
		return n.Target
	case AuditInviteCreate, AuditInviteDelete:
		for _, c := range n.Changes {
			var channel id.ID
			if c.Key == "channel_id" && json.Unmarshal(slices.Concat(c.New, c.Old), &channel) == nil {
				return channel
			}
		}
	}
	channel, err := id.Parse(n.Options["channel_id"])
	if err != nil {
		return 0
	}
	return channel
}

// AuditChange is one thing that is different now. An absent value is one that there was not, or is not any more.
type AuditChange struct {
	Key string          `json:"key"`
	New json.RawMessage `json:"new_value,omitempty"`
	Old json.RawMessage `json:"old_value,omitempty"`
}

// WithAudit puts notes into the body of an entry, which is a JSON object with something in it.
func WithAudit(body []byte, notes []AuditNote) ([]byte, error) {
	if len(notes) == 0 {
		return body, nil
	}
	encoded, err := json.Marshal(notes)
	if err != nil {
		return nil, err
	}
	body = append(bytes.TrimSuffix(body, []byte("}")), `,"audit":`...)
	return append(append(body, encoded...), '}'), nil
}

// AuditOf are the notes in the body of the entry whose place makes the id at: each with its id.
func AuditOf(body []byte, at id.ID) ([]AuditNote, error) {
	var p struct {
		Audit []AuditNote `json:"audit"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, err
	}
	for i := range p.Audit {
		if p.Audit[i].ID == 0 {
			p.Audit[i].ID = at
		}
	}
	return p.Audit, nil
}

// AuditEntryCreate is GUILD_AUDIT_LOG_ENTRY_CREATE.
type AuditEntryCreate struct {
	AuditNote
	GuildID id.ID `json:"guild_id"`
}

// AuditLog is the answer to GET /guilds/{guild}/audit-logs.
type AuditLog struct {
	Entries         List[AuditNote] `json:"audit_log_entries"`
	Users           List[User]      `json:"users"`
	Integrations    List[Null]      `json:"integrations"`
	Webhooks        List[Webhook]   `json:"webhooks"`
	ScheduledEvents List[Null]      `json:"guild_scheduled_events"`
	Threads         List[Null]      `json:"threads"`
	Commands        List[Null]      `json:"application_commands"`
	ModerationRules List[Null]      `json:"auto_moderation_rules"`
}

// ListAuditLog is the query of GET /guilds/{guild}/audit-logs. With After alone the oldest come first.
type ListAuditLog struct {
	User   id.ID       `query:"user_id"`
	Target id.ID       `query:"target_id"`
	Action AuditAction `query:"action_type"`
	Before id.ID       `query:"before"`
	After  id.ID       `query:"after"`
	Limit  *int        `query:"limit" validate:"omitnil,min=1,max=100"`
}
