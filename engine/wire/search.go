package wire

import "github.com/xcord/xcord/engine/id"

// SearchMessages is the query of GET /guilds/{guild}/messages/search. Several values of one key are alternatives, but for has, of which all
// must hold; different keys must all hold. Before and MaxID mean the same, and so do After and MinID; the messages named are not
// included.
type SearchMessages struct {
	Content         string   `query:"content" validate:"max=1024"`
	AuthorIDs       []id.ID  `query:"author_id" validate:"max=100"`
	ChannelIDs      []id.ID  `query:"channel_id" validate:"max=500"`
	Mentions        []id.ID  `query:"mentions" validate:"max=100"`
	MentionRoles    []id.ID  `query:"mentions_role_id" validate:"max=100"`
	MentionEveryone *bool    `query:"mention_everyone"`
	Pinned          *bool    `query:"pinned"`
	Has             []string `query:"has" validate:"max=18,dive,oneof=link embed file image video sound sticker poll snapshot -link -embed -file -image -video -sound -sticker -poll -snapshot"`
	MinID           id.ID    `query:"min_id"`
	MaxID           id.ID    `query:"max_id"`
	After           id.ID    `query:"after"`
	Before          id.ID    `query:"before"`
	Limit           *int     `query:"limit" validate:"omitnil,min=1,max=25"`
	Offset          int      `query:"offset" validate:"min=0,max=9975"`
	SortBy          string   `query:"sort_by" validate:"omitempty,oneof=timestamp relevance"`
	SortOrder       string   `query:"sort_order" validate:"omitempty,oneof=asc desc"`
}

// SearchPage is how many messages a search finds when no limit is asked for.
const SearchPage = 25

// SearchResults is the answer to a search. Each message stands in a list of its own; TotalResults is counted up to 10,000. There is no deep
// indexing.
type SearchResults struct {
	Messages     [][]FoundMessage `json:"messages"`
	Deep         bool             `json:"doing_deep_historical_index"`
	TotalResults int              `json:"total_results"`
}

// FoundMessage is a message that a search has found.
type FoundMessage struct {
	Message
	Hit bool `json:"hit"` // always
}
