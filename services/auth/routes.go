package auth

import (
	"net/http"
	"time"

	"github.com/xcord/xcord/engine/rest"
	"github.com/xcord/xcord/engine/wire"
)

// Routes is what the service offers. It consumes no events.
var Routes = rest.Table[*Service]{
	rest.POST("/auth/register", (*Service).register, rest.Public(), rest.Status(http.StatusCreated), rest.Limit(10, time.Hour)),
	rest.POST("/auth/login", (*Service).login, rest.Public(), rest.Limit(60, time.Minute)),
	rest.POST("/auth/mfa/totp", (*Service).loginCode, rest.Public(), rest.Limit(60, time.Minute)),
	rest.POST("/auth/setup", (*Service).setup, rest.Public(), rest.Status(http.StatusCreated), rest.Limit(10, time.Minute)),
	rest.POST("/auth/reset", (*Service).reset, rest.Public(), rest.Limit(10, time.Minute)),
	rest.POST("/auth/elevate", (*Service).elevate, rest.UsersOnly(), rest.Limit(10, time.Minute)),
	rest.POST("/auth/refresh", (*Service).refresh, rest.Public()),
	rest.POST("/auth/logout", (*Service).logout, rest.UsersOnly()),
	rest.GET("/auth/sessions", (*Service).listSessions, rest.UsersOnly()),
	rest.POST("/auth/sessions/logout", (*Service).endSessions, rest.UsersOnly()),

	rest.GET("/users/@me", (*Service).getSelf),
	rest.PATCH("/users/@me", (*Service).updateSelf, rest.Body(profileBytesMax)),
	rest.DELETE("/users/@me", (*Service).deleteSelf, rest.UsersOnly()),
	rest.POST("/users/@me/mfa/totp", (*Service).offerFactor, rest.UsersOnly()),
	rest.POST("/users/@me/mfa/totp/enable", (*Service).enableFactor, rest.UsersOnly()),
	rest.POST("/users/@me/mfa/totp/disable", (*Service).disableFactor, rest.UsersOnly()),
	rest.GET("/users/{user}", (*Service).getUser),

	rest.POST("/applications", (*Service).createApplication, rest.UsersOnly(), rest.Status(http.StatusCreated)),
	rest.GET("/applications", (*Service).listApplications, rest.UsersOnly()),
	rest.GET("/applications/@me", (*Service).ownApplication),
	rest.GET("/oauth2/applications/@me", (*Service).ownApplication),
	rest.DELETE("/applications/{application}", (*Service).deleteApplication, rest.UsersOnly()),
	rest.POST("/applications/{application}/bot", (*Service).createBot, rest.UsersOnly()),
	rest.POST("/applications/{application}/bot/reset", (*Service).resetBot, rest.UsersOnly()),

	rest.GET("/admin/settings", asAdmin((*Service).getSettings), rest.UsersOnly()),
	rest.PATCH("/admin/settings", asAdmin((*Service).updateSettings), rest.UsersOnly()),
	rest.GET("/admin/users", asAdmin((*Service).listUsers), rest.UsersOnly()),
	rest.GET("/admin/users/{user}/sockets", asAdmin((*Service).listSockets), rest.UsersOnly()),
	rest.POST("/admin/users/{user}/disable", asAdmin((*Service).disableUser), rest.UsersOnly()),
	rest.POST("/admin/users/{user}/enable", asAdmin((*Service).enableUser), rest.UsersOnly()),
	rest.POST("/admin/users/{user}/reset", asAdmin((*Service).makeReset), rest.UsersOnly()),
	rest.DELETE("/admin/users/{user}/mfa", asAdmin((*Service).dropUserFactor), rest.UsersOnly()),
	rest.GET("/admin/invites", asAdmin((*Service).listInvites), rest.UsersOnly()),
	rest.POST("/admin/invites", asAdmin((*Service).createInvite), rest.UsersOnly(), rest.Status(http.StatusCreated)),
	rest.DELETE("/admin/invites/{code}", asAdmin((*Service).deleteInvite), rest.UsersOnly()),
	rest.GET("/admin/audit", asAdmin((*Service).listAudit), rest.UsersOnly()),

	rest.GET("/avatars/{user}/{file}", (*Service).getAvatar, rest.Public(), rest.Root(), rest.Limit(1000, 10*time.Second)),
	rest.GET(setupPath, (*Service).getPage, rest.Public(), rest.Root()),
	rest.GET(resetPath, (*Service).getPage, rest.Public(), rest.Root()),
}

// profileBytesMax has room for an avatar.
const profileBytesMax = wire.AvatarTextMax + 64<<10
