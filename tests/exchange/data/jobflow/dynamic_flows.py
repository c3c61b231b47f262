from random import randint

from jobflow import Flow, Response, job
from jobflow.managers.local import run_locally


@job
def make_list(a):
    return [a] * randint(2, 5)


@job
def add(a, b):
    return a + b


@job
def add_distributed(list_a):
    jobs = [add(val, 1) for val in list_a]
    flow = Flow(jobs)
    return Response(replace=flow)


@job
def add_with_logic(a, b):
    if a < 10:
        return Response(addition=add(a, b))
    return None


@job
def fibonacci(smaller, larger, stop_point=1000):
    """A dynamic workflow that calculates the Fibonacci sequence.

    If the number is larger than stop_point, the job will stop the workflow
    execution, otherwise, a new job will be submitted to calculate the next number.
    """
    total = smaller + larger

    if total > stop_point:
        return total

    new_job = fibonacci(larger, total, stop_point=stop_point)
    return Response(output=total, addition=new_job)
