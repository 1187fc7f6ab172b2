-- Icons of guilds, as avatars are kept: the picture that a guild has now, and its hash with the guild, which is its name for clients.

-- +goose Up

alter table guilds add column icon text;

create table guild_icons (
    guild_id bigint primary key references guilds (id) on delete cascade,
    hash     text   not null,
    type     text   not null,
    body     bytea  not null
);

-- +goose Down

drop table guild_icons;
alter table guilds drop column icon;
