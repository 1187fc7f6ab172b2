-- Reactions and pins, written in batches behind the log. The tables belong to services/messaging.

-- +goose Up

-- Per message, emoji and user the latest change: place is where it stands in the log, as an id, and is_on whether the reaction is there since.
-- What was taken away keeps its row, so that an older change that comes late (a dead letter, a repeat) finds it has been overtaken. User 0 is
-- for all users, and there the empty emoji for all emoji: up to that place everything was cleared.
create table message_reactions (
    message_id bigint  not null,
    emoji      text    not null,
    user_id    bigint  not null,
    place      bigint  not null,
    is_on      boolean not null,
    primary key (message_id, emoji, user_id)
);

-- Likewise per message whether it is pinned. The message's body says so, too.
create table message_pins (
    channel_id bigint  not null,
    message_id bigint  not null,
    place      bigint  not null,
    is_on      boolean not null,
    primary key (channel_id, message_id)
);

-- +goose Down

drop table message_pins;
drop table message_reactions;
