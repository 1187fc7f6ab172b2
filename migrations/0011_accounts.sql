-- Accounts complete: profiles, second factors, administrators, and how people get in. The tables belong to services/auth.

-- +goose Up

alter table users add column bio text;
alter table users add column admin boolean not null default false;
alter table users add column disabled_at timestamptz;

create index users_admin on users (id) where admin;

-- One picture for each who has one. The hash is of the body, and part of its address.
create table avatars (
    "user" bigint primary key references users (id) on delete cascade,
    hash   text   not null,
    type   text   not null,
    body   bytea  not null
);

-- The second factor. The secret is sealed by a key that is not in the database; last_step is the newest time step whose code
-- was used, so that none is used twice.
create table totp (
    "user"       bigint      primary key references users (id) on delete cascade,
    secret       bytea       not null,
    confirmed_at timestamptz,
    last_step    bigint      not null default 0,
    failures     int         not null default 0,
    failed_at    timestamptz
);

create table recovery_codes (
    "user" bigint not null references users (id) on delete cascade,
    hash   bytea  not null,
    primary key ("user", hash)
);

-- Codes that lead once to one thing, as their SHA-256: the first administrator's account (which is nobody's yet), a new password,
-- the second step of a login.
create table one_time_codes (
    hash       bytea       primary key,
    purpose    text        not null check (purpose in ('setup', 'reset', 'login')),
    "user"     bigint      references users (id) on delete cascade,
    expires_at timestamptz not null,
    check ((purpose = 'setup') = ("user" is null))
);

create index one_time_codes_user on one_time_codes ("user");
create index one_time_codes_expires on one_time_codes (expires_at);

-- Until when a session counts as its owner's beyond doubt.
create table elevations (
    session text        primary key,
    "user"  bigint      not null references users (id) on delete cascade,
    until   timestamptz not null
);

create index elevations_user on elevations ("user");
create index elevations_until on elevations (until);

-- Who has a code may make an account while registration is by invite. max_uses 0 means without limit.
create table registration_invites (
    code       text        primary key,
    creator    bigint      not null,
    max_uses   int         not null,
    uses       int         not null default 0,
    created_at timestamptz not null default now(),
    expires_at timestamptz
);

-- What administrators have set at run time; what is not here is as the configuration says.
create table instance_settings (
    name  text primary key,
    value text not null
);

-- +goose Down

drop table instance_settings;
drop table registration_invites;
drop table elevations;
drop table one_time_codes;
drop table recovery_codes;
drop table totp;
drop table avatars;
alter table users drop column disabled_at, drop column admin, drop column bio;
