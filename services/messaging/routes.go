package messaging

import (
	"time"

	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// Routes is what the service offers.
var Routes = rest.Table[*Service]{
	rest.POST("/channels/{channel}/messages", (*Service).createMessage, rest.Answers[wire.Message](), rest.Limit(5, 5*time.Second)),
	rest.GET("/channels/{channel}/messages", (*Service).listMessages, rest.Answers[[]wire.Message]()),
	rest.GET("/channels/{channel}/messages/{message}", (*Service).getMessage, rest.Answers[wire.Message]()),
	rest.PATCH("/channels/{channel}/messages/{message}", (*Service).editMessage, rest.Answers[wire.Message](), rest.Limit(5, 5*time.Second)),
	rest.DELETE("/channels/{channel}/messages/{message}", (*Service).deleteMessage),
	rest.POST("/channels/{channel}/messages/bulk-delete", (*Service).deleteMessages),
	rest.POST("/channels/{channel}/messages/{message}/ack", (*Service).ackMessage, rest.UsersOnly(), rest.Limit(60, 10*time.Second)),
	rest.GET("/channels/{channel}/messages/{message}/receipts", (*Service).listReceipts),
	rest.GET("/guilds/{guild}/messages/search", (*Service).searchMessages, rest.Answers[wire.SearchResults](), rest.Limit(10, 10*time.Second)),
	rest.POST("/read-states/ack-bulk", (*Service).ackBulk, rest.UsersOnly()),
	rest.PATCH("/users/@me/guilds/{guild}/settings", (*Service).updateSettings, rest.UsersOnly()),
	rest.POST("/channels/{channel}/typing", (*Service).startTyping, rest.Limit(5, 5*time.Second)),
}
