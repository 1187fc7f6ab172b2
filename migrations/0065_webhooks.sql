-- Incoming webhooks. The tables belong to services/guilds; the pictures are read by engine/picture for who serves avatars.

-- +goose Up

-- token_hash is what a webhook's token is known by; token_sealed is the token itself for who manages webhooks, encrypted by the key between
-- services. application_id is 0 when the creator is no bot.
create table webhooks (
    id             bigint primary key,
    guild_id       bigint not null references guilds (id) on delete cascade,
    channel_id     bigint not null references channels (id) on delete cascade,
    creator_id     bigint not null,
    application_id bigint not null,
    name           text   not null,
    avatar         text,
    token_hash     text   not null,
    token_sealed   bytea  not null
);
create index webhooks_guild on webhooks (guild_id);
create index webhooks_channel on webhooks (channel_id);

create table webhook_avatars (
    webhook_id bigint primary key references webhooks (id) on delete cascade,
    hash       text   not null,
    type       text   not null,
    body       bytea  not null
);

-- +goose Down

drop table webhook_avatars;
drop table webhooks;
