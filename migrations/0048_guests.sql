-- Temporary invites make guests: members who are out when they have gone offline, unless somebody has given them a role.

-- +goose Up

alter table invites add column temporary bool not null default false;
alter table members add column guest bool not null default false;

create index members_guests on members (guild_id, user_id) where guest;

-- +goose Down

alter table members drop column guest;
alter table invites drop column temporary;
