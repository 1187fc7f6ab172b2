package guilds

import (
	"net/http"
	"time"

	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// Routes is all that the service offers.
var Routes = rest.Table[*Service]{
	rest.POST("/guilds", (*Service).createGuild, rest.UsersOnly(), rest.Status(http.StatusCreated), rest.Body(iconBodyMax)),
	rest.GET("/guilds/{guild}", (*Service).getGuild),
	rest.PATCH("/guilds/{guild}", (*Service).updateGuild, rest.Body(iconBodyMax)),
	rest.DELETE("/guilds/{guild}", (*Service).deleteGuild),
	rest.POST("/guilds/{guild}/delete", (*Service).deleteGuild),
	rest.GET("/icons/{guild}/{file}", (*Service).getIcon, rest.Public(), rest.Root(), rest.Limit(1000, 10*time.Second)),
	rest.GET("/users/@me/guilds", (*Service).listMyGuilds),
	rest.DELETE("/users/@me/guilds/{guild}", (*Service).leaveGuild),

	rest.POST("/users/@me/channels", (*Service).openChannel, rest.Limit(10, 10*time.Second)),
	rest.GET("/users/@me/channels", (*Service).listDirects),
	rest.PUT("/channels/{channel}/recipients/{user}", (*Service).addRecipient, rest.UsersOnly()),
	rest.DELETE("/channels/{channel}/recipients/{user}", (*Service).removeRecipient, rest.UsersOnly()),

	rest.GET("/guilds/{guild}/channels", (*Service).listChannels),
	rest.POST("/guilds/{guild}/channels", (*Service).createChannel, rest.Status(http.StatusCreated)),
	rest.PATCH("/guilds/{guild}/channels", (*Service).moveChannels, rest.Limit(5, 10*time.Second)), // an entry may have all channels in it
	rest.GET("/channels/{channel}", (*Service).getChannel),
	rest.PATCH("/channels/{channel}", (*Service).updateChannel),
	rest.DELETE("/channels/{channel}", (*Service).deleteChannel),
	rest.PUT("/channels/{channel}/permissions/{overwrite}", (*Service).putOverwrite),
	rest.DELETE("/channels/{channel}/permissions/{overwrite}", (*Service).deleteOverwrite),

	rest.GET("/guilds/{guild}/roles", (*Service).listRoles),
	rest.POST("/guilds/{guild}/roles", (*Service).createRole),
	rest.PATCH("/guilds/{guild}/roles", (*Service).moveRoles),
	rest.GET("/guilds/{guild}/roles/{role}", (*Service).getRole),
	rest.PATCH("/guilds/{guild}/roles/{role}", (*Service).updateRole),
	rest.DELETE("/guilds/{guild}/roles/{role}", (*Service).deleteRole),

	rest.GET("/guilds/{guild}/permissions/explain", (*Service).explain),
	rest.GET("/guilds/{guild}/audit-logs", (*Service).listAudit),

	rest.GET("/guilds/{guild}/members", (*Service).listMembers),
	rest.PATCH("/guilds/{guild}/members/@me", (*Service).updateMe),
	rest.GET("/guilds/{guild}/members/search", (*Service).searchMembers, rest.Limit(10, 10*time.Second)),
	rest.GET("/guilds/{guild}/members/{user}", (*Service).getMember),
	rest.PUT("/guilds/{guild}/members/{user}", (*Service).addBot, rest.UsersOnly(), rest.Status(http.StatusCreated), rest.Answers[wire.Member](), rest.OrEmpty()),
	rest.PATCH("/guilds/{guild}/members/{user}", (*Service).updateMember),
	rest.DELETE("/guilds/{guild}/members/{user}", (*Service).kickMember),
	rest.PUT("/guilds/{guild}/members/{user}/roles/{role}", (*Service).giveRole),
	rest.DELETE("/guilds/{guild}/members/{user}/roles/{role}", (*Service).takeRole),

	rest.GET("/guilds/{guild}/voice-states/@me", (*Service).getMyVoiceState),
	rest.PATCH("/guilds/{guild}/voice-states/@me", (*Service).updateMyVoiceState),
	rest.GET("/guilds/{guild}/voice-states/{user}", (*Service).getVoiceState),
	rest.PATCH("/guilds/{guild}/voice-states/{user}", (*Service).updateVoiceState),

	rest.GET("/guilds/{guild}/bans", (*Service).listBans),
	rest.GET("/guilds/{guild}/bans/{user}", (*Service).getBan),
	rest.PUT("/guilds/{guild}/bans/{user}", (*Service).putBan),
	rest.DELETE("/guilds/{guild}/bans/{user}", (*Service).deleteBan),

	rest.GET("/channels/{channel}/invites", (*Service).listChannelInvites),
	rest.POST("/channels/{channel}/invites", (*Service).createInvite),
	rest.GET("/guilds/{guild}/invites", (*Service).listGuildInvites),
	rest.GET("/invites/{code}", (*Service).getInvite, rest.Public()),
	rest.POST("/invites/{code}", (*Service).acceptInvite, rest.UsersOnly()),
	rest.DELETE("/invites/{code}", (*Service).deleteInvite),

	rest.GET("/channels/{channel}/webhooks", (*Service).listChannelWebhooks),
	rest.POST("/channels/{channel}/webhooks", (*Service).createWebhook, rest.Body(iconBodyMax)),
	rest.GET("/guilds/{guild}/webhooks", (*Service).listGuildWebhooks),
	rest.GET("/webhooks/{webhook}", (*Service).getWebhook),
	rest.PATCH("/webhooks/{webhook}", (*Service).updateWebhook, rest.Body(iconBodyMax)),
	rest.DELETE("/webhooks/{webhook}", (*Service).deleteWebhook),
	rest.GET("/webhooks/{webhook}/{token}", (*Service).getWebhookByToken, rest.ByToken()),
	rest.PATCH("/webhooks/{webhook}/{token}", (*Service).updateWebhookByToken, rest.ByToken(), rest.Body(iconBodyMax)),
	rest.DELETE("/webhooks/{webhook}/{token}", (*Service).deleteWebhookByToken, rest.ByToken()),

	rest.GET("/guilds/{guild}/emojis", (*Service).listNothing),
	rest.GET("/guilds/{guild}/stickers", (*Service).listNothing),
	rest.GET("/guilds/{guild}/scheduled-events", (*Service).listNothing),
	rest.GET("/guilds/{guild}/threads/active", (*Service).listThreads),
	rest.GET("/voice/regions", (*Service).listRegions),
}
