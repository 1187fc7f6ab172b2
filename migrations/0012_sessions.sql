-- What a person is shown of their logins, and whether everybody has been told that one has ended.

-- +goose Up

alter table sessions
    add column os        text    not null default '',
    add column platform  text    not null default '',
    add column address   text    not null default '', -- of the last use
    add column announced boolean not null default false;

create index sessions_unannounced on sessions (revoked_at) where revoked_at is not null and not announced;

-- +goose Down

drop index sessions_unannounced;

alter table sessions
    drop column os,
    drop column platform,
    drop column address,
    drop column announced;
