package fault

import (
	"maps"
	"net/http"
	"slices"
)

// Code is the number that a client reads in the "code" field of an error body. The numbers are those of the
// public chat API that existing clients already know, so they must never be renumbered.
type Code int

// The codes, grouped as the wire contract groups them.
const (
	General Code = 0

	UnknownChannel   Code = 10003
	UnknownGuild     Code = 10004
	UnknownInvite    Code = 10006
	UnknownMember    Code = 10007
	UnknownMessage   Code = 10008
	UnknownOverwrite Code = 10009
	UnknownRole      Code = 10011
	UnknownUser      Code = 10013
	UnknownEmoji     Code = 10014
	UnknownWebhook   Code = 10015
	UnknownBan       Code = 10026

	UnknownVoiceState Code = 10065

	NotForBots   Code = 20001
	OnlyForBots  Code = 20002
	Slowmode     Code = 20016
	ChannelWrite Code = 20028

	MaxGuilds    Code = 30001
	MaxPins      Code = 30003
	MaxRoles     Code = 30005
	MaxWebhooks  Code = 30007
	MaxReactions Code = 30010
	MaxChannels  Code = 30013
	MaxInvites   Code = 30016

	NotAuthorized   Code = 40001
	RequestTooLarge Code = 40005
	Banned          Code = 40007
	NotInVoice      Code = 40032

	MissingAccess       Code = 50001
	NotOnDM             Code = 50003
	NotYourMessage      Code = 50005
	EmptyMessage        Code = 50006
	CannotMessageUser   Code = 50007
	NonTextChannel      Code = 50008
	MissingPermissions  Code = 50013
	InvalidToken        Code = 50014
	BulkDeleteCount     Code = 50016
	PinInWrongChannel   Code = 50019
	InviteInvalid       Code = 50020
	SystemMessage       Code = 50021
	WrongChannelType    Code = 50024
	InvalidWebhookToken Code = 50027
	InvalidRole         Code = 50028
	InvalidRecipients   Code = 50033
	TooOldForBulkDelete Code = 50034
	InvalidForm         Code = 50035
	InvalidAPIVersion   Code = 50041
	FileTooLarge        Code = 50045
	InvalidJSON         Code = 50109
	NotElevated         Code = 60003
	ReactionBlocked     Code = 90001
	Overloaded          Code = 130000
	NoForumChannel      Code = 220003
)

// public is what a client is told about a code.
type public struct {
	status  int
	message string
}

// publics is the one table of codes; it is only read. A code that is missing here cannot be made into a Fault.
var publics = map[Code]public{
	General: {http.StatusBadRequest, "400: Bad Request"},

	UnknownChannel:   {http.StatusNotFound, "Unknown Channel"},
	UnknownGuild:     {http.StatusNotFound, "Unknown Guild"},
	UnknownInvite:    {http.StatusNotFound, "Unknown Invite"},
	UnknownMember:    {http.StatusNotFound, "Unknown Member"},
	UnknownMessage:   {http.StatusNotFound, "Unknown Message"},
	UnknownOverwrite: {http.StatusNotFound, "Unknown Permission Overwrite"},
	UnknownRole:      {http.StatusNotFound, "Unknown Role"},
	UnknownUser:      {http.StatusNotFound, "Unknown User"},
	UnknownEmoji:     {http.StatusNotFound, "Unknown Emoji"},
	UnknownWebhook:   {http.StatusNotFound, "Unknown Webhook"},
	UnknownBan:       {http.StatusNotFound, "Unknown Ban"},

	UnknownVoiceState: {http.StatusNotFound, "Unknown Voice State"},

	NotForBots:   {http.StatusForbidden, "Bots cannot use this endpoint"},
	OnlyForBots:  {http.StatusForbidden, "Only bots can use this endpoint"},
	Slowmode:     {http.StatusTooManyRequests, "This action cannot be performed due to slowmode rate limit"},
	ChannelWrite: {http.StatusTooManyRequests, "The channel you are writing has hit the write rate limit"},

	MaxGuilds:    {http.StatusBadRequest, "Maximum number of guilds reached"},
	MaxPins:      {http.StatusBadRequest, "Maximum number of pins reached for the channel (250)"},
	MaxRoles:     {http.StatusBadRequest, "Maximum number of guild roles reached (250)"},
	MaxWebhooks:  {http.StatusBadRequest, "Maximum number of webhooks reached (15)"},
	MaxReactions: {http.StatusBadRequest, "Maximum number of reactions reached (20)"},
	MaxChannels:  {http.StatusBadRequest, "Maximum number of guild channels reached (500)"},
	MaxInvites:   {http.StatusBadRequest, "Maximum number of invites reached (1000)"},

	NotAuthorized:   {http.StatusUnauthorized, "Unauthorized. Provide a valid token and try again"},
	RequestTooLarge: {http.StatusRequestEntityTooLarge, "Request entity too large"},
	Banned:          {http.StatusForbidden, "The user is banned from this guild"},
	NotInVoice:      {http.StatusBadRequest, "Target user is not connected to voice"},

	MissingAccess:       {http.StatusForbidden, "Missing Access"},
	NotOnDM:             {http.StatusForbidden, "Cannot execute action on a DM channel"},
	NotYourMessage:      {http.StatusForbidden, "Cannot edit a message authored by another user"},
	EmptyMessage:        {http.StatusBadRequest, "Cannot send an empty message"},
	CannotMessageUser:   {http.StatusForbidden, "Cannot send messages to this user"},
	NonTextChannel:      {http.StatusBadRequest, "Cannot send messages in a non-text channel"},
	MissingPermissions:  {http.StatusForbidden, "Missing Permissions"},
	InvalidToken:        {http.StatusUnauthorized, "Invalid authentication token provided"},
	BulkDeleteCount:     {http.StatusBadRequest, "Provided too few or too many messages to delete. Must provide at least 2 and at most 100 messages"},
	PinInWrongChannel:   {http.StatusBadRequest, "A message can only be pinned to the channel it was sent in"},
	InviteInvalid:       {http.StatusBadRequest, "Invite code was either invalid or taken"},
	SystemMessage:       {http.StatusForbidden, "Cannot execute action on a system message"},
	WrongChannelType:    {http.StatusBadRequest, "Cannot execute action on this channel type"},
	InvalidWebhookToken: {http.StatusUnauthorized, "Invalid Webhook Token"},
	InvalidRole:         {http.StatusBadRequest, "Invalid role"},
	InvalidRecipients:   {http.StatusBadRequest, "Invalid Recipient(s)"},
	TooOldForBulkDelete: {http.StatusBadRequest, "A message provided was too old to bulk delete"},
	InvalidForm:         {http.StatusBadRequest, "Invalid Form Body"},
	InvalidAPIVersion:   {http.StatusBadRequest, "Invalid API version provided"},
	FileTooLarge:        {http.StatusBadRequest, "File uploaded exceeds the maximum size"},
	InvalidJSON:         {http.StatusBadRequest, "The request body contains invalid JSON"},
	NotElevated:         {http.StatusForbidden, "Prove who you are once more before this operation"},
	ReactionBlocked:     {http.StatusForbidden, "Reaction was blocked"},
	Overloaded:          {http.StatusServiceUnavailable, "API resource is currently overloaded. Try again a little later"},
	NoForumChannel:      {http.StatusBadRequest, "Webhooks can only create threads in forum channels"},
}

// Codes are all that there are, in no order.
func Codes() []Code { return slices.Collect(maps.Keys(publics)) }
