#!/usr/bin/env python3
"""schemathesis against the OpenAPI document that `stamp serve` ships: every answer is one that it describes."""
import unittest

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import content_type_conformance, not_a_server_error, response_schema_conformance, status_code_conformance

from program import ProgramTest
from server import Server

CHECKS = [content_type_conformance, not_a_server_error, response_schema_conformance, status_code_conformance]


class SchemaTest(ProgramTest):
    def test_every_answer_is_described(self):
        server = Server(self.counting, "--parallel", 4, "--queue", 64)
        self.addCleanup(server.stop)
        operations = [result.ok() for result in schemathesis.openapi.from_url(server.url + "/openapi.json").get_all_operations()]
        self.assertGreaterEqual(len(operations), 10, [o.label for o in operations])
        for operation in operations:
            @settings(max_examples=30, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
                      suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy())
            def check(case):
                response = case.call(base_url=server.url, timeout=60)
                case.validate_response(response, checks=CHECKS)
            with self.subTest(operation.label):
                check()
        self.assertTrue(server.alive())


if __name__ == "__main__":
    unittest.main()
