-- Accounts, their sessions, and applications with their bots. The tables belong to services/auth.

-- +goose Up

-- People and bots. The two *_key columns hold the folded form that must be unique; folding happens in Go, because it does
-- not depend on the database's locale there.
create table users (
    id            bigint      primary key,
    version       bigint      not null,
    bot           boolean     not null,
    username      text        not null,
    username_key  text        not null constraint users_username_key unique,
    global_name   text,
    email         text,
    email_key     text        constraint users_email_key unique,
    avatar        text,
    flags         bigint      not null default 0,
    password      text,       -- argon2id in PHC form; null for bots
    created_at    timestamptz not null default now(),
    check (bot = (password is null))
);

-- An application has its bot's id. Only the hash of the bot's token is kept; null until the first token was asked for.
create table applications (
    id          bigint      primary key references users (id) on delete cascade,
    owner       bigint      not null references users (id) on delete cascade,
    name        text        not null,
    verify_key  text        not null,
    token_hash  text,
    created_at  timestamptz not null default now()
);

create index applications_owner on applications (owner, id);

-- A session is a family of refresh tokens: one login.
create table sessions (
    id           text        primary key,
    "user"       bigint      not null references users (id) on delete cascade,
    user_agent   text        not null,
    created_at   timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    revoked_at   timestamptz
);

create index sessions_user on sessions ("user") where revoked_at is null;

-- Every refresh token of a family, as its SHA-256. At most one of a family is not spent. The salt of a spent one leads to
-- its successor, but only for who still has the token itself.
create table refresh_tokens (
    hash       bytea       primary key,
    session    text        not null references sessions (id) on delete cascade,
    expires_at timestamptz not null,
    spent_at   timestamptz,
    salt       bytea,
    check ((spent_at is null) = (salt is null))
);

create unique index refresh_tokens_live on refresh_tokens (session) where spent_at is null;
create index refresh_tokens_session on refresh_tokens (session);
create index refresh_tokens_expires on refresh_tokens (expires_at);

-- +goose Down

drop table refresh_tokens;
drop table sessions;
drop table applications;
drop table users;
