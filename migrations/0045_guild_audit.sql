-- The audit log of guilds: who of a guild did what to whom, and why. Rows are of a change's own transaction, or follow the log where the
-- change has no transaction (messages). They outlive their guild, are seen by nobody then, and go when they are old.

-- +goose Up

-- target_id is 0 when there is none. changes and options are JSON as the API shows it; text, because it is only ever shown.
create table guild_audit (
    guild_id  bigint not null,
    id        bigint not null,
    action    int    not null,
    actor_id  bigint not null,
    target_id bigint not null,
    changes   text   not null,
    options   text   not null,
    reason    text   not null,
    primary key (guild_id, id)
);

create index guild_audit_age on guild_audit (id);

alter table members add column timed_out_until timestamptz;

-- +goose Down

alter table members drop column timed_out_until;
drop table guild_audit;
