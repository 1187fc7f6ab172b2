-- What is searched: an index over the messages of guilds, made from the log by a group of its own and belonging to services/messaging. It is
-- derived: it may be emptied and filled again.

-- +goose Up

-- edit_id is as in messages: of which version of the message the rest is. has are bits: 1 link, 2 embed, 4 file, 8 image, 16 video,
-- 32 sound, 64 pinned, 128 for everyone. mentions are users and roles.
create table message_search (
    id         bigint   primary key,
    guild_id   bigint   not null,
    channel_id bigint   not null,
    author_id  bigint   not null,
    edit_id    bigint   not null,
    has        int      not null,
    mentions   bigint[] not null,
    words      tsvector not null
);

-- What the index has of a message. The brackets go because the parser would take what stands between two of them for a tag, and leave it
-- out.
-- +goose StatementBegin
create function message_search_of(content text, body text, out has int, out mentions bigint[], out words tsvector)
language plpgsql immutable as $$
declare
    m jsonb := body::jsonb;
begin
    has := (content ~* 'https?://')::int
        + 2 * jsonb_path_exists(m, '$.embeds[*]')::int
        + 4 * jsonb_path_exists(m, '$.attachments[*]')::int
        + 8 * jsonb_path_exists(m, '$.attachments[*].content_type ? (@ starts with "image/")')::int
        + 16 * jsonb_path_exists(m, '$.attachments[*].content_type ? (@ starts with "video/")')::int
        + 32 * jsonb_path_exists(m, '$.attachments[*].content_type ? (@ starts with "audio/")')::int
        + 64 * jsonb_path_exists(m, '$.pinned ? (@ == true)')::int
        + 128 * jsonb_path_exists(m, '$.mention_everyone ? (@ == true)')::int;
    mentions := array(
        select (who #>> '{}')::bigint
        from (select jsonb_path_query(m, '$.mentions[*].id') union all select jsonb_path_query(m, '$.mention_roles[*]')) as named (who));
    words := to_tsvector('simple', translate(content, '<>', '  '));
end $$;
-- +goose StatementEnd

-- What is there already, behind the writer's checkpoint. What the writer adds after this was read is handed to the new group, too.
insert into checkpoints (grp, shard, last_ms, last_seq) select 'search', shard, last_ms, last_seq from checkpoints where grp = 'pg';

insert into message_search (id, guild_id, channel_id, author_id, edit_id, has, mentions, words)
select m.id, m.guild_id, m.channel_id, m.author_id, m.edit_id, s.has, s.mentions, s.words
from messages m, message_search_of(m.content, m.body) s where m.guild_id <> 0;

create index message_search_words on message_search using gin (words);
create index message_search_guild on message_search (guild_id, id);
create index message_search_author on message_search (guild_id, author_id, id);

-- +goose Down

drop table message_search;
drop function message_search_of;
delete from checkpoints where grp = 'search';
