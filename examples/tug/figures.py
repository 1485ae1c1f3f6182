from fairway.delivery import process_statistics

rooms = process_statistics().counters["rooms"]
print(rooms["running"], rooms["missed_ticks"], rooms["failures"], rooms["dropped_messages"])
