package wire

import (
	"encoding/json"
	"strconv"

	"github.com/xcord/xcord/engine/id"
)

// Opcode says what a gateway frame is.
type Opcode int

// The opcodes; S is sent by the server, C by the client.
const (
	OpDispatch            Opcode = 0  // S
	OpHeartbeat           Opcode = 1  // C, S
	OpIdentify            Opcode = 2  // C
	OpPresenceUpdate      Opcode = 3  // C
	OpVoiceStateUpdate    Opcode = 4  // C
	OpResume              Opcode = 6  // C
	OpReconnect           Opcode = 7  // S
	OpRequestGuildMembers Opcode = 8  // C
	OpInvalidSession      Opcode = 9  // S
	OpHello               Opcode = 10 // S
	OpHeartbeatACK        Opcode = 11 // S
)

// CloseCode is the code with which the server closes a gateway connection.
type CloseCode int

// The close codes. After those from CloseBadShard on, and after
// CloseAuthenticationFailed, a client must not come back as it is.
const (
	CloseUnknown              CloseCode = 4000
	CloseBadOpcode            CloseCode = 4001
	CloseDecode               CloseCode = 4002
	CloseNotAuthenticated     CloseCode = 4003
	CloseAuthenticationFailed CloseCode = 4004
	CloseAlreadyAuthenticated CloseCode = 4005
	CloseBadSeq               CloseCode = 4007
	CloseRateLimited          CloseCode = 4008
	CloseTimedOut             CloseCode = 4009
	CloseBadShard             CloseCode = 4010
	CloseShardingRequired     CloseCode = 4011
	CloseBadVersion           CloseCode = 4012
	CloseBadIntents           CloseCode = 4013
	CloseDisallowedIntents    CloseCode = 4014
)

// Intents is the set of event groups that a session wants.
type Intents uint64

// The intents that are valid in IDENTIFY. IntentMessageRead is XCord's own.
const (
	IntentGuilds                 Intents = 1 << 0
	IntentGuildMembers           Intents = 1 << 1
	IntentGuildModeration        Intents = 1 << 2
	IntentGuildExpressions       Intents = 1 << 3
	IntentGuildIntegrations      Intents = 1 << 4
	IntentGuildWebhooks          Intents = 1 << 5
	IntentGuildInvites           Intents = 1 << 6
	IntentGuildVoiceStates       Intents = 1 << 7
	IntentGuildPresences         Intents = 1 << 8
	IntentGuildMessages          Intents = 1 << 9
	IntentGuildMessageReactions  Intents = 1 << 10
	IntentGuildMessageTyping     Intents = 1 << 11
	IntentDirectMessages         Intents = 1 << 12
	IntentDirectMessageReactions Intents = 1 << 13
	IntentDirectMessageTyping    Intents = 1 << 14
	IntentMessageContent         Intents = 1 << 15
	IntentScheduledEvents        Intents = 1 << 16
	IntentAutoModerationConfig   Intents = 1 << 20
	IntentAutoModerationExecute  Intents = 1 << 21
	IntentGuildPolls             Intents = 1 << 24
	IntentDirectMessagePolls     Intents = 1 << 25
	IntentMessageRead            Intents = 1 << 40

	IntentsAll = 1<<17 - 1 | IntentAutoModerationConfig | IntentAutoModerationExecute |
		IntentGuildPolls | IntentDirectMessagePolls | IntentMessageRead
)

// Has reports whether all of want is in i.
func (i Intents) Has(want Intents) bool { return i&want == want }

// Valid reports whether i has only bits that there are; anything else is CloseBadIntents.
func (i Intents) Valid() bool { return i&^IntentsAll == 0 }

// Frame is a gateway frame as it is read. Writers use AppendDispatch and AppendFrame.
type Frame struct {
	Op Opcode          `json:"op"`
	D  json.RawMessage `json:"d"`
	S  *int64          `json:"s"`
	T  *string         `json:"t"`
}

// AppendDispatchHead appends all of a dispatch that comes before its d. The d is the same for
// every recipient and follows, then one '}': only these few bytes are made per session.
func AppendDispatchHead(dst []byte, event string, s int64) []byte {
	dst = append(dst, `{"op":0,"t":"`...)
	dst = append(dst, event...)
	dst = append(dst, `","s":`...)
	dst = strconv.AppendInt(dst, s, 10)
	return append(dst, `,"d":`...)
}

// AppendDispatch appends a whole dispatch frame; d is JSON.
func AppendDispatch(dst []byte, event string, s int64, d []byte) []byte {
	dst = AppendDispatchHead(dst, event, s)
	dst = append(dst, d...)
	return append(dst, '}')
}

// AppendFrame appends a frame that is no dispatch; d is JSON.
func AppendFrame(dst []byte, op Opcode, d []byte) []byte {
	dst = append(dst, `{"op":`...)
	dst = strconv.AppendInt(dst, int64(op), 10)
	dst = append(dst, `,"d":`...)
	dst = append(dst, d...)
	return append(dst, `,"s":null,"t":null}`...)
}

// Hello is the d of OpHello, in milliseconds.
type Hello struct {
	HeartbeatInterval int `json:"heartbeat_interval"`
}

// Identify is the d of OpIdentify. Intents is nil when absent.
type Identify struct {
	Token          string             `json:"token"`
	Intents        *Intents           `json:"intents"`
	Properties     IdentifyProperties `json:"properties"`
	Compress       bool               `json:"compress,omitempty"`
	LargeThreshold *int               `json:"large_threshold,omitempty"`
	Shard          *[2]int            `json:"shard,omitempty"`
	Presence       json.RawMessage    `json:"presence,omitempty"`
}

// IdentifyProperties say what the client is; older ones write a $ before the names.
type IdentifyProperties struct {
	OS      string `json:"os"`
	Browser string `json:"browser"`
	Device  string `json:"device"`
}

// UnmarshalJSON reads both spellings.
func (p *IdentifyProperties) UnmarshalJSON(b []byte) error {
	var both struct {
		OS, Browser, Device string
		OldOS               string `json:"$os"`
		OldBrowser          string `json:"$browser"`
		OldDevice           string `json:"$device"`
	}
	if err := json.Unmarshal(b, &both); err != nil {
		return err
	}
	*p = IdentifyProperties{
		OS:      firstOf(both.OS, both.OldOS),
		Browser: firstOf(both.Browser, both.OldBrowser),
		Device:  firstOf(both.Device, both.OldDevice),
	}
	return nil
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Resume is the d of OpResume.
type Resume struct {
	Token     string `json:"token"`
	SessionID string `json:"session_id"`
	Seq       int64  `json:"seq"`
}

// RequestMembers is the d of OpRequestGuildMembers. GuildID and UserIDs come as an id or as a
// list of ids.
type RequestMembers struct {
	GuildID   OneOrMany `json:"guild_id"`
	Query     *string   `json:"query,omitempty"`
	Limit     int       `json:"limit"`
	UserIDs   OneOrMany `json:"user_ids,omitempty"`
	Presences bool      `json:"presences,omitempty"`
	Nonce     string    `json:"nonce,omitempty"`
}

// OneOrMany is a list of ids that may be written as a single one.
type OneOrMany []id.ID

// UnmarshalJSON reads an id, a list of ids, or null.
func (o *OneOrMany) UnmarshalJSON(b []byte) error {
	if b[0] == '[' {
		var many []id.ID
		if err := json.Unmarshal(b, &many); err != nil {
			return err
		}
		*o = many
		return nil
	}
	var one id.ID
	if err := json.Unmarshal(b, &one); err != nil {
		return err
	}
	*o = nil
	if one != 0 {
		*o = OneOrMany{one}
	}
	return nil
}

// MembersChunk is GUILD_MEMBERS_CHUNK.
type MembersChunk struct {
	GuildID    id.ID        `json:"guild_id"`
	Members    List[Member] `json:"members"`
	ChunkIndex int          `json:"chunk_index"`
	ChunkCount int          `json:"chunk_count"`
	NotFound   List[id.ID]  `json:"not_found"`
	Presences  []Presence   `json:"presences,omitempty"`
	Nonce      string       `json:"nonce,omitempty"`
}

// Ready is READY.
type Ready struct {
	V                int                    `json:"v"`
	User             SelfUser               `json:"user"`
	Guilds           List[UnavailableGuild] `json:"guilds"`
	SessionID        string                 `json:"session_id"`
	ResumeGatewayURL string                 `json:"resume_gateway_url"`
	Shard            *[2]int                `json:"shard,omitempty"`
	Application      ReadyApplication       `json:"application"`
	PrivateChannels  List[PrivateChannel]   `json:"private_channels"`
	Relationships    List[Null]             `json:"relationships"`
	Presences        List[Null]             `json:"presences"`
	UserSettings     struct{}               `json:"user_settings"`
	// The next two are for users, and not for bots.
	ReadState         *ReadState         `json:"read_state,omitempty"`
	UserGuildSettings *UserGuildSettings `json:"user_guild_settings,omitempty"`
	Trace             List[string]       `json:"_trace"`
}

// ReadyApplication is what READY tells of the application; for a person it has the user's id.
type ReadyApplication struct {
	ID    id.ID `json:"id"`
	Flags int   `json:"flags"`
}

// Resumed is RESUMED: an object, never null.
type Resumed struct {
	Trace List[string] `json:"_trace"`
}

// TypingSignal is the body of the ephemeral topic of the same purpose.
type TypingSignal struct {
	TypingStart
	// To are the recipients of a direct channel.
	To []id.ID `json:"to,omitempty"`
}

// TypingStart is TYPING_START.
type TypingStart struct {
	ChannelID id.ID   `json:"channel_id"`
	GuildID   id.ID   `json:"guild_id,omitempty"`
	UserID    id.ID   `json:"user_id"`
	Timestamp int64   `json:"timestamp"` // Unix seconds
	Member    *Member `json:"member,omitempty"`
}

// Gateway is the answer to GET /gateway.
type Gateway struct {
	URL string `json:"url"`
}

// GatewayBot is the answer to GET /gateway/bot.
type GatewayBot struct {
	URL               string            `json:"url"`
	Shards            int               `json:"shards"`
	SessionStartLimit SessionStartLimit `json:"session_start_limit"`
}

// SessionStartLimit says how often a bot may identify. ResetAfter is in milliseconds.
type SessionStartLimit struct {
	Total          int `json:"total"`
	Remaining      int `json:"remaining"`
	ResetAfter     int `json:"reset_after"`
	MaxConcurrency int `json:"max_concurrency"`
}

// UserSocket is a connection of a user to a gateway, for administrators.
type UserSocket struct {
	Gateway   string `json:"gateway"`
	SessionID string `json:"session_id"`
	Status    string `json:"status"`
	Since     Time   `json:"since"` // when it came to that gateway
}
