"""Old name, until every import is moved."""

from utils.command_line import expand_arguments as expand_arguments
from utils.files import expand_path as expand_path
