-- Where second factors were shown to be right. Wrong codes from such a place are counted apart from all others, so that whoever has
-- somebody's password cannot keep them out. The table belongs to services/auth.

-- +goose Up

-- place is an IPv4 address, or the /64 of an IPv6 one.
create table totp_places (
    "user"    bigint      not null references users (id) on delete cascade,
    place     text        not null,
    proved_at timestamptz not null,
    failures  int         not null default 0,
    failed_at timestamptz,
    primary key ("user", place)
);

create index totp_places_proved on totp_places (proved_at);

-- +goose Down

drop table totp_places;
