-- The audit log of accounts and administration has an end: what is older than 90 days may be deleted, and nothing younger.

-- +goose Up

drop trigger audit_append_only on audit;

create trigger audit_append_only before update or truncate on audit
    for each statement execute function audit_refuse();

create trigger audit_keep_young before delete on audit
    for each row when (old.at > now() - interval '90 days') execute function audit_refuse();

create index audit_at on audit (at);

-- +goose Down

drop index audit_at;
drop trigger audit_keep_young on audit;
drop trigger audit_append_only on audit;

create trigger audit_append_only before update or delete or truncate on audit
    for each statement execute function audit_refuse();
