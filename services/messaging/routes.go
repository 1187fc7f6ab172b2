package messaging

import (
	"time"

	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// reactLimit lets a bot put on a message what it offers for choice within some seconds.
var reactLimit = rest.Limit(10, 2*time.Second)

// webhookLimit is what clients of webhooks are used to.
var webhookLimit = rest.Limit(5, 2*time.Second)

// Routes is what the service offers.
var Routes = rest.Table[*Service]{
	rest.POST("/channels/{channel}/messages", linked((*Service).createMessage), rest.Answers[wire.Message](), rest.Form(wire.AttachmentsMax), rest.Limit(5, 5*time.Second)),
	rest.GET("/channels/{channel}/messages", linked((*Service).listMessages), rest.Answers[[]wire.Message]()),
	rest.GET("/channels/{channel}/messages/{message}", linked((*Service).getMessage), rest.Answers[wire.Message]()),
	rest.PATCH("/channels/{channel}/messages/{message}", linked((*Service).editMessage), rest.Answers[wire.Message](), rest.Form(wire.AttachmentsMax), rest.Limit(5, 5*time.Second)),
	rest.DELETE("/channels/{channel}/messages/{message}", (*Service).deleteMessage),
	rest.POST("/channels/{channel}/messages/bulk-delete", (*Service).deleteMessages),
	rest.POST("/webhooks/{webhook}/{token}", linked((*Service).executeWebhook), rest.Answers[wire.Message](), rest.OrEmpty(), rest.ByToken(), rest.Form(wire.AttachmentsMax), webhookLimit),
	rest.GET("/webhooks/{webhook}/{token}/messages/{message}", linked((*Service).getWebhookMessage), rest.Answers[wire.Message](), rest.ByToken()),
	rest.PATCH("/webhooks/{webhook}/{token}/messages/{message}", linked((*Service).editWebhookMessage), rest.Answers[wire.Message](), rest.ByToken(), rest.Form(wire.AttachmentsMax), webhookLimit),
	rest.DELETE("/webhooks/{webhook}/{token}/messages/{message}", (*Service).deleteWebhookMessage, rest.ByToken()),
	rest.PUT("/channels/{channel}/messages/{message}/reactions/{emoji}/@me", (*Service).addReaction, reactLimit),
	rest.DELETE("/channels/{channel}/messages/{message}/reactions/{emoji}/@me", (*Service).removeOwnReaction, reactLimit),
	rest.DELETE("/channels/{channel}/messages/{message}/reactions/{emoji}/{user}", (*Service).removeReaction, reactLimit),
	rest.GET("/channels/{channel}/messages/{message}/reactions/{emoji}", (*Service).listReactions),
	rest.DELETE("/channels/{channel}/messages/{message}/reactions", (*Service).clearReactions, reactLimit),
	rest.DELETE("/channels/{channel}/messages/{message}/reactions/{emoji}", (*Service).clearEmoji, reactLimit),
	rest.GET("/channels/{channel}/pins", linked((*Service).listPinsPlainly), rest.Answers[[]wire.Message]()),
	rest.PUT("/channels/{channel}/pins/{message}", (*Service).pinMessage),
	rest.DELETE("/channels/{channel}/pins/{message}", (*Service).unpinMessage),
	rest.GET("/channels/{channel}/messages/pins", (*Service).listPins),
	rest.PUT("/channels/{channel}/messages/pins/{message}", (*Service).pinMessage),
	rest.DELETE("/channels/{channel}/messages/pins/{message}", (*Service).unpinMessage),
	rest.POST("/channels/{channel}/messages/{message}/ack", (*Service).ackMessage, rest.UsersOnly(), rest.Limit(60, 10*time.Second)),
	rest.GET("/channels/{channel}/messages/{message}/receipts", (*Service).listReceipts),
	rest.GET("/guilds/{guild}/messages/search", linked((*Service).searchMessages), rest.Answers[wire.SearchResults](), rest.Limit(10, 10*time.Second)),
	rest.POST("/read-states/ack-bulk", (*Service).ackBulk, rest.UsersOnly()),
	rest.PATCH("/users/@me/guilds/{guild}/settings", (*Service).updateSettings, rest.Answers[wire.GuildSettings](), rest.UsersOnly()),
	rest.GET("/attachments/{channel}/{attachment}/{name}", (*Service).getAttachment, rest.Root(), rest.Public(), rest.Limit(500, 10*time.Second)),
	rest.POST("/channels/{channel}/typing", (*Service).startTyping, rest.Limit(5, 5*time.Second)),
}
