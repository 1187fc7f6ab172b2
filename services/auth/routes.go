package auth

import (
	"net/http"
	"time"

	"github.com/xcord/xcord/engine/rest"
)

// Routes is what the service offers. It consumes no events.
var Routes = rest.Table[*Service]{
	rest.POST("/auth/register", (*Service).register, rest.Public(), rest.Status(http.StatusCreated), rest.Limit(10, time.Hour)),
	rest.POST("/auth/login", (*Service).login, rest.Public(), rest.Limit(60, time.Minute)),
	rest.POST("/auth/refresh", (*Service).refresh, rest.Public()),
	rest.POST("/auth/logout", (*Service).logout, rest.UsersOnly()),
	rest.GET("/auth/sessions", (*Service).listSessions, rest.UsersOnly()),
	rest.POST("/auth/sessions/logout", (*Service).endSessions, rest.UsersOnly()),

	rest.GET("/users/@me", (*Service).getSelf),
	rest.PATCH("/users/@me", (*Service).updateSelf),
	rest.GET("/users/{user}", (*Service).getUser),

	rest.POST("/applications", (*Service).createApplication, rest.UsersOnly(), rest.Status(http.StatusCreated)),
	rest.GET("/applications", (*Service).listApplications, rest.UsersOnly()),
	rest.GET("/applications/@me", (*Service).ownApplication),
	rest.GET("/oauth2/applications/@me", (*Service).ownApplication),
	rest.POST("/applications/{application}/bot", (*Service).createBot, rest.UsersOnly()),
	rest.POST("/applications/{application}/bot/reset", (*Service).resetBot, rest.UsersOnly()),
}
