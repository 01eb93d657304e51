import './jshm.css';
