-- Who is kept out of which guild. Part of the guild like its members: a change of it is a version of the guild.

-- +goose Up

create table bans (
    guild_id bigint not null references guilds (id) on delete cascade,
    user_id  bigint not null,
    reason   text, -- null when nobody gave one
    primary key (guild_id, user_id)
);

-- +goose Down

drop table bans;
