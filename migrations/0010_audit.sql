-- The audit log: what happened to accounts and to the installation, and who did it. The table belongs to services/auth.

-- +goose Up

-- actor and target are 0 when there is none or nobody knows. details are short facts by name; no secret is ever among them.
create table audit (
    id      bigint      generated always as identity primary key,
    at      timestamptz not null default now(),
    actor   bigint      not null,
    action  text        not null,
    target  bigint      not null,
    address text        not null,
    details jsonb       not null
);

create index audit_target on audit (target, id) where target <> 0;
create index audit_actor on audit (actor, id) where actor <> 0;

-- One role does everything here, so what it must not do cannot be left out of its grants.
-- +goose StatementBegin
create function audit_refuse() returns trigger language plpgsql as $$
begin
    raise exception 'the audit log is only ever added to';
end
$$;
-- +goose StatementEnd

create trigger audit_append_only before update or delete or truncate on audit
    for each statement execute function audit_refuse();

-- +goose Down

drop table audit;
drop function audit_refuse();
