-- What the guilds service owns. Every change of any of it locks the guild's row, adds 1 to its version and records one
-- outbox row for that version, so each of these tables changes by one transaction at a time per guild. An id of 0 is none.

-- +goose Up

create table guilds (
    id                            bigint      primary key,
    version                       bigint      not null,
    owner_id                      bigint      not null,
    name                          text        not null,
    description                   text,
    preferred_locale              text        not null,
    verification_level            int         not null,
    default_message_notifications int         not null,
    explicit_content_filter       int         not null,
    afk_channel_id                bigint      not null,
    afk_timeout                   int         not null,
    system_channel_id             bigint      not null,
    system_channel_flags          int         not null,
    created_at                    timestamptz not null default now()
);

-- overwrites is the array of permission overwrites as the API shows it: it is always read and written as a whole.
create table channels (
    id                  bigint primary key,
    guild_id            bigint not null references guilds (id) on delete cascade,
    type                int    not null,
    name                text   not null,
    position            int    not null,
    parent_id           bigint not null,
    topic               text,
    nsfw                bool   not null,
    rate_limit_per_user int    not null,
    bitrate             int    not null,
    user_limit          int    not null,
    rtc_region          text,
    overwrites          jsonb  not null
);

create index channels_guild on channels (guild_id);

create table roles (
    id              bigint primary key,
    guild_id        bigint not null references guilds (id) on delete cascade,
    name            text   not null,
    permissions     bigint not null,
    position        int    not null,
    color           int    not null,
    color_secondary int,
    color_tertiary  int,
    hoist           bool   not null,
    mentionable     bool   not null,
    unicode_emoji   text
);

create index roles_guild on roles (guild_id);

create table members (
    guild_id  bigint      not null references guilds (id) on delete cascade,
    user_id   bigint      not null,
    nick      text,
    roles     bigint[]    not null,
    joined_at timestamptz not null,
    primary key (guild_id, user_id)
);

create index members_user on members (user_id, guild_id);

-- max_uses 0 means without limit, expires_at null means never.
create table invites (
    code       text        primary key,
    guild_id   bigint      not null references guilds (id) on delete cascade,
    channel_id bigint      not null references channels (id) on delete cascade,
    inviter_id bigint      not null,
    max_age    int         not null,
    max_uses   int         not null,
    uses       int         not null default 0,
    created_at timestamptz not null,
    expires_at timestamptz
);

create index invites_guild on invites (guild_id);
create index invites_channel on invites (channel_id);

-- +goose Down

drop table invites;
drop table members;
drop table roles;
drop table channels;
drop table guilds;
