"""Old name, until every import is moved."""

from utils.files import read_json_object as read_json_object
