from channels.management.commands.runworker import Command as RunWorker
from channels.worker import Worker

reports = []


async def report(exception, channel):
    reports.append((channel, str(exception)))


class PatientWorker(Worker):
    shutdown_timeout = 60.0

    async def application_exception(self, exception, application_details):
        await super().application_exception(exception, application_details)
        await report(exception, channel=application_details["scope"]["channel"])


class Command(RunWorker):
    worker_class = PatientWorker
