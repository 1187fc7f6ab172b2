package messaging

import (
	"time"

	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// Routes is what the service offers.
var Routes = rest.Table[*Service]{
	rest.POST("/channels/{channel}/messages", linked((*Service).createMessage), rest.Form(wire.AttachmentsMax), rest.Limit(5, 5*time.Second)),
	rest.GET("/channels/{channel}/messages", linked((*Service).listMessages)),
	rest.GET("/channels/{channel}/messages/{message}", linked((*Service).getMessage)),
	rest.PATCH("/channels/{channel}/messages/{message}", linked((*Service).editMessage), rest.Form(wire.AttachmentsMax), rest.Limit(5, 5*time.Second)),
	rest.DELETE("/channels/{channel}/messages/{message}", (*Service).deleteMessage),
	rest.POST("/channels/{channel}/messages/bulk-delete", (*Service).deleteMessages),
	rest.GET("/attachments/{channel}/{attachment}/{name}", (*Service).getAttachment, rest.Root(), rest.Public(), rest.Limit(500, 10*time.Second)),
	rest.POST("/channels/{channel}/typing", (*Service).startTyping, rest.Limit(5, 5*time.Second)),
}
