package client_test

import (
	"context"
	"log"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/wire"
)

// A whole bot: it answers !ping, also after the server was restarted under it.
func Example() {
	ctx := context.Background()
	c, err := client.New(client.Config{URL: "http://127.0.0.1:8080", Token: "Bot …"})
	if err != nil {
		log.Fatal(err)
	}
	gateway, err := c.Connect(ctx, client.GatewayConfig{Intents: wire.IntentGuildMessages | wire.IntentMessageContent})
	if err != nil {
		log.Fatal(err)
	}
	for event := range gateway.Events() {
		if m, ok := client.As[wire.Message](event, "MESSAGE_CREATE"); ok && m.Content == "!ping" {
			_, err = c.Say(ctx, m.ChannelID, "pong")
		}
	}
	log.Fatal(err, gateway.Err())
}
